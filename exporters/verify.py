"""Prove that an ONNX file is valid, loads, and computes what the framework computes.

How far two correct programs may differ is measured, not guessed. The framework itself is run again
with every weight and input multiplied by 1 + U(-1, 1) * eps, the smallest change that its precision
can hold: what that does to an output is the *floor*, the distance that rounding alone explains in
this network. A correct float32 run of a residual network lies within about twice the floor of the
float64 result, so an export passes when it lies within `LIMIT` floors of the framework, both in the
L2 norm and at its worst element (so that one wrong element among many cannot hide). A floor is
never below one unit roundoff of the output's own scale.

Too small a floor only makes the check stricter, so the cheapest estimate comes first: one row of
the batch is another with its input nudged, which costs no run. Where that does not explain the
difference, the weights are nudged too, up to `REPLICATES` times, before an export is called wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from exporters.errors import ExportError, first_line
from exporters.onnx_graph import WeightedModel

Array = NDArray[Any]

LIMIT = 8.0  # each of the two runs within 4 floors of the exact result
REPLICATES = 5

# Prime, so that the repeated pattern below does not line up with the axes of a weight.
_PATTERN = 65537
_UNKNOWN_SIZE = 32
# A nudge that moves an output by more than this (relative L2) is looked at again: it may be that
# the rows of a batch are mixed, which is not rounding.
_SUSPICIOUS = 2.0**-15


class Reference(Protocol):
    """The framework's model as a function of arrays.

    Inputs and outputs are in the order and layout of the graph's. With `nudge`, a seed, the
    weights are `nudged` first; the model itself never changes.
    """

    def __call__(self, inputs: Sequence[Array], *, nudge: int | None = None) -> list[Array]: ...


@dataclass(frozen=True)
class Check:
    """One output at one batch size: its error, and the most that rounding explains."""

    output: str
    batch: int
    max_abs: float
    bound_max_abs: float
    rel_l2: float
    bound_rel_l2: float

    @property
    def passed(self) -> bool:
        return self.max_abs <= self.bound_max_abs and self.rel_l2 <= self.bound_rel_l2

    def __str__(self) -> str:
        return (
            f"{self.output} at N={self.batch}: max abs {self.max_abs:.3g}"
            f" (rounding explains {self.bound_max_abs:.3g}), relative L2 {self.rel_l2:.3g}"
            f" (rounding explains {self.bound_rel_l2:.3g})"
        )


@dataclass
class _Floor:
    """What replicates did to one output, of magnitudes `scale` (largest) and `norm` (L2)."""

    unit: float
    replicates: int = 0
    # By the input alone:
    input_max_abs: float = 0.0
    input_rel_l2: float = 0.0
    # By weights and input: the largest, and the sum of squares.
    squares: float = 0.0
    largest: float = 0.0

    def add(self, *, max_abs: float, rel_l2: float) -> None:
        self.replicates += 1
        self.squares += rel_l2**2
        self.largest = max(self.largest, max_abs)

    def bounds(self, scale: float) -> tuple[float, float]:
        """The largest (max_abs, rel_l2) that rounding explains."""
        max_abs = max(self.largest, self.input_max_abs, self.unit * scale)
        rel_l2 = (self.squares / max(self.replicates, 1)) ** 0.5
        return LIMIT * max_abs, LIMIT * max(rel_l2, self.input_rel_l2, self.unit)


def verify(
    model: WeightedModel,
    path: Path,
    reference: Reference,
    inputs: Sequence[Array],
    *,
    batches: Sequence[int] = (1, 2, 3),
) -> list[Check]:
    """Check `model`, written at `path`, against `reference` for each N in `batches`.

    `inputs`: one array per input of the graph, with at least max(batches) rows. The graph's outputs
    beyond the reference's (taps) are run but not compared. Raises ExportError with the numbers
    when an output differs by more than rounding.
    """
    with ThreadPoolExecutor(1) as pool:
        # ONNX Runtime loads on one core while the graph is checked and the framework computes.
        loading = pool.submit(load, path)
        check_graph(model)
        expected = _Expected(reference, inputs, max(batches))
        session = loading.result()
    names = [value.name for value in session.get_outputs()]
    feeds = [value.name for value in session.get_inputs()]
    checks: list[Check] = []
    for batch in batches:
        rows = dict(zip(feeds, (array[:batch] for array in expected.inputs), strict=True))
        try:
            actual = session.run(None, rows)
        except Exception as error:  # ONNX Runtime's own exception types share no base class
            raise ExportError(f"ONNX Runtime fails at N={batch}: {first_line(error)}") from error
        checks += _judge(expected, dict(zip(names, actual, strict=True)), batch)
    failed = [str(check) for check in checks if not check.passed]
    if failed:
        raise ExportError("the exported graph computes something else: " + "; ".join(failed))
    return checks


def check_graph(model: WeightedModel) -> None:
    """onnx.checker and strict shape inference. Raises ExportError.

    The large tensors stand as typed inputs: their values play no part in either, and parsing them
    once more would cost more than all the rest. ONNX Runtime reads them from the file.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model.skeleton)
    for name, array in model.tensors.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        whole.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    try:
        onnx.checker.check_model(whole, full_check=True)
    except Exception as error:  # ValidationError, InferenceError, DecodeError share no base class
        raise ExportError(f"not a valid ONNX model: {first_line(error)}") from error


def load(path: Path) -> onnxruntime.InferenceSession:
    """A session on the CPU, with ONNX Runtime's default optimisations. Raises ExportError."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what fails is raised
    # Waiting threads that spin would take the cores from the framework, whose turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        # Without the path of a temporary file and the place in ONNX Runtime's own source.
        reason = re.sub(r"^.* failed:(/\S+:\d+ .*?\) )?", "", first_line(error))
        raise ExportError(f"ONNX Runtime does not load it: {reason}") from error


def samples(values: Sequence[onnx.ValueInfoProto], *, rows: int = 3, seed: int = 0) -> list[Array]:
    """Seeded arrays for a graph's inputs: normal numbers, or 0 and 1 for integers and booleans.

    A size that varies, other than the batch's, is 32.
    """
    rng = np.random.default_rng(seed)
    arrays: list[Array] = []
    for value in values:
        tensor = value.type.tensor_type
        sizes = [dim.dim_value or _UNKNOWN_SIZE for dim in tensor.shape.dim]
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = (rows, *sizes[1:])
        if kind.kind in "biu":
            arrays.append(rng.integers(0, 2, shape).astype(kind))
        else:
            arrays.append(rng.standard_normal(shape, np.float32).astype(kind))
    return arrays


def nudged(array: Array, *, seed: int, index: int = 0) -> Array:
    """Multiply every number by 1 + U(-1, 1) * eps of its precision; others are returned as is.

    The random numbers are one pattern of 65537, repeated, that starts elsewhere for each `index`.
    """
    if array.dtype not in (np.float16, np.float32, np.float64) or not array.size:
        return array
    pattern = _pattern(seed, array.dtype.str)
    flat = np.ascontiguousarray(array).reshape(-1)
    pattern = np.roll(pattern, (index * 7919) % _PATTERN)
    whole = flat.size // _PATTERN * _PATTERN
    result = np.empty_like(flat)
    rows = (-1, _PATTERN)
    np.multiply(flat[:whole].reshape(rows), pattern, out=result[:whole].reshape(rows))
    np.multiply(flat[whole:], pattern[: flat.size - whole], out=result[whole:])
    return result.reshape(array.shape)


@lru_cache(maxsize=2)
def _pattern(seed: int, dtype: str) -> Array:
    kind = np.dtype(dtype)
    noise = np.random.default_rng(seed).uniform(-1, 1, _PATTERN)
    return (1 + noise * float(np.finfo(kind).eps)).astype(kind)


class _Expected:
    """The framework's outputs, run as seldom as possible, and the floor of each.

    Smaller batches are read off the rows of the largest. Where that does not agree with the graph
    (a model may mix the rows of a batch), the framework is run at that N itself before anything is
    called wrong.
    """

    def __init__(self, reference: Reference, inputs: Sequence[Array], rows: int) -> None:
        self.reference = reference
        self.inputs = [_with_nudged_row(a[:rows], i) for i, a in enumerate(inputs)]
        self.rows = rows
        self.runs: dict[int, list[Array]] = {}
        self.floors = [_Floor(_unit(array)) for array in self.at(rows)]
        for floor, array in zip(self.floors, self.at(rows), strict=True):
            if rows > 1 and array.ndim and len(array) == rows:
                max_abs, rel_l2 = _effect(array[-1:], array[:1])
                if rel_l2 <= _SUSPICIOUS:
                    floor.input_max_abs, floor.input_rel_l2 = max_abs, rel_l2

    def at(self, batch: int) -> list[Array]:
        """What the framework computes at this N."""
        if batch not in self.runs:
            try:
                arrays = self.reference([array[:batch] for array in self.inputs])
            except Exception as error:  # whatever a layer's own call raises
                message = f"the model itself fails at N={batch}: {first_line(error)}"
                raise ExportError(message) from error
            self.runs[batch] = [np.asarray(array) for array in arrays]
        return self.runs[batch]

    def first_guess(self, batch: int) -> list[Array]:
        """The rows of what has been computed already, where outputs have rows."""
        largest = self.runs[self.rows]
        if batch in self.runs or any(a.ndim == 0 or len(a) != self.rows for a in largest):
            return self.at(batch)
        return [array[:batch] for array in largest]

    def replicate(self) -> bool:
        """Run one more replicate, on one row; False when there were enough."""
        seed = self.floors[0].replicates if self.floors else REPLICATES
        if seed >= REPLICATES:
            return False
        moved = [nudged(a[:1], seed=seed, index=i) for i, a in enumerate(self.inputs)]
        results = [np.asarray(array) for array in self.reference(moved, nudge=seed)]
        pairs = list(zip(results, self.first_guess(1), strict=True))
        if any(a.shape != e.shape or _effect(a, e)[1] > _SUSPICIOUS for a, e in pairs):
            # As large as that, it may be the other rows' doing: compare at the same N.
            pairs = list(zip(results, self.at(1), strict=True))
        for floor, (actual, plain) in zip(self.floors, pairs, strict=True):
            max_abs, rel_l2 = _effect(actual, plain)
            floor.add(max_abs=max_abs, rel_l2=rel_l2)
        return True


def _with_nudged_row(array: Array, index: int) -> Array:
    """Replace the last row by the first, nudged."""
    array = array.copy()
    if len(array) > 1:
        array[-1:] = nudged(array[:1], seed=REPLICATES, index=index)
    return array


def _effect(actual: Array, plain: Array) -> tuple[float, float]:
    """How far a replicate moved an output; integers must agree exactly, so theirs is no bound."""
    if plain.dtype.kind != "f":
        return 0.0, 0.0
    return _distance(actual=actual, expected=plain)[:2]


def _unit(array: Array) -> float:
    """Half of eps: the most that one rounding changes a number, relatively."""
    return float(np.finfo(array.dtype).eps) / 2 if array.dtype.kind == "f" else 0.0


def _judge(expected: _Expected, actual: Mapping[str, Array], batch: int) -> list[Check]:
    compared = list(actual.items())[: len(expected.floors)]
    if len(compared) < len(expected.floors):
        raise ExportError(f"expected {len(expected.floors)} outputs, found {len(compared)}")
    checks = _checks(expected, expected.first_guess(batch), compared, batch)
    if not all(check.passed for check in checks):
        checks = _checks(expected, expected.at(batch), compared, batch)
    while not all(check.passed for check in checks) and expected.replicate():
        checks = _checks(expected, expected.at(batch), compared, batch)
    return checks


def _checks(
    expected: _Expected,
    references: Sequence[Array],
    actual: Sequence[tuple[str, Array]],
    batch: int,
) -> list[Check]:
    checks = []
    for (name, array), reference, floor in zip(actual, references, expected.floors, strict=True):
        if array.shape != reference.shape:
            raise ExportError(
                f"{name} at N={batch}: expected shape {reference.shape}, found {array.shape}"
            )
        max_abs, rel_l2, scale = _distance(actual=array, expected=reference)
        bound_max_abs, bound_rel_l2 = floor.bounds(scale)
        checks.append(Check(name, batch, max_abs, bound_max_abs, rel_l2, bound_rel_l2))
    return checks


def _distance(*, actual: Array, expected: Array) -> tuple[float, float, float]:
    """(largest difference, relative L2, largest expected magnitude), in float64.

    Infinite where one side is not finite and the other is not the same. Raises ExportError when
    there are numbers and not one is finite: nothing would be compared.
    """
    a, e = actual.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    finite = np.isfinite(e)
    if e.size and not finite.any():
        raise ExportError("the model's outputs are not finite on the input it is verified on")
    same = np.array_equal(a[~finite], e[~finite], equal_nan=True)
    if not same or not np.isfinite(a[finite]).all():
        return float("inf"), float("inf"), 0.0
    difference = a[finite] - e[finite]
    norm = float(np.linalg.norm(e[finite]))
    error = float(np.linalg.norm(difference))
    relative = error / norm if norm else (float("inf") if error else 0.0)
    largest = float(np.abs(difference).max(initial=0.0))
    return largest, relative, float(np.abs(e[finite]).max(initial=0.0))
