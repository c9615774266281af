"""Verification that an ONNX file is valid, loads, and computes the same as the framework.

The allowed difference of two correct programs is measured. The framework itself is run again with
every weight and input multiplied by 1 + U(-1, 1) * eps, the smallest change in its precision: the
effect on an output is the *floor*, the distance that rounding alone explains in this network
(`parity.numerics.floor`). A correct float32 run of a residual network lies within
about twice the floor of the float64 result, so an export passes when it lies within `LIMIT` floors
of the framework, both in the L2 norm and at its worst element (so that one wrong element among many
cannot hide). A floor is never below one unit roundoff of the output's own scale.

Too small a floor only makes the check stricter, so that the cheapest estimate comes first: the last
row of the batch is the first one with its input perturbed, which costs no run. Where that does not
explain the difference, the weights are perturbed too, up to `REPLICATES` times, before an export
is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from exporters.errors import ExportError, first_line
from exporters.graph.model import WeightedModel
from exporters.graph.session import check_model, open_session
from parity.numerics import floor
from parity.numerics.distance import ErrorMetrics, measure_error

Array = NDArray[Any]

LIMIT = 8.0  # each of the two runs within 4 floors of the exact result

REPLICATES = 5
"""Runs with perturbed weights at most; unlike the floor's own, none of them is the plain run."""

_UNKNOWN_SIZE = 32
# A perturbation that moves an output by more than this (relative L2) may not be rounding, but the
# effect of other rows of the batch.
_ROUNDING_LIMIT = 2.0**-15


class ModelFunction(Protocol):
    """A framework's model as a function of arrays.

    Inputs and outputs are in the order and layout of the graph's. With a `seed`, the weights are
    perturbed first (`perturb`); the model itself never changes.
    """

    def __call__(self, inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]: ...


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
class _Replicates:
    """How far one output moved when the input alone, or the weights too, were perturbed."""

    roundoff: float
    by_input: list[ErrorMetrics] = field(default_factory=list)
    by_weights: list[ErrorMetrics] = field(default_factory=list)

    def bounds(self, scale: float) -> tuple[float, float]:
        """Return the largest (max_abs, rel_l2) that rounding explains, of magnitudes `scale`."""
        floors = [
            floor.compute_floor(
                [replace(error, scale=scale) for error in errors or [ErrorMetrics(0.0, 0.0)]],
                roundoff=self.roundoff,
            )
            for errors in (self.by_input, self.by_weights)
        ]
        return LIMIT * max(f.max_abs for f in floors), LIMIT * max(f.rel_l2 for f in floors)


def verify(
    model: WeightedModel,
    path: Path,
    function: ModelFunction,
    inputs: Sequence[Array],
    *,
    batches: Sequence[int] = (1, 2, 3),
) -> list[Check]:
    """Compare `model`, written at `path`, with the framework's `function` for each N in `batches`.

    `inputs`: one array per input of the graph, with at least max(batches) rows. The graph's outputs
    after the function's (taps) are run but not compared. Raises ExportError with the numbers when
    an output differs by more than rounding.
    """
    with ThreadPoolExecutor(1) as pool:
        # ONNX Runtime loads on one core while the graph is checked and the framework computes.
        loading = pool.submit(open_session, path)
        check_model(model)
        expected = _FrameworkRuns(function, inputs, max(batches))
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


def draw_samples(
    values: Sequence[onnx.ValueInfoProto], *, rows: int = 3, seed: int = 0
) -> list[Array]:
    """Draw seeded arrays for a graph's inputs: normal, or 0 and 1 for integers and booleans.

    A size that varies, other than the batch's, is 32.
    """
    rng = np.random.default_rng(seed)
    arrays: list[Array] = []
    for value in values:
        tensor = value.type.tensor_type
        sizes = [dim.dim_value or _UNKNOWN_SIZE for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = (rows, *sizes[1:])
        if dtype.kind in "biu":
            arrays.append(rng.integers(0, 2, shape).astype(dtype))
        else:
            arrays.append(rng.standard_normal(shape, np.float32).astype(dtype))
    return arrays


def perturb(array: Array, *, seed: int, index: int = 0) -> Array:
    """Perturb an array in its own precision; integers, booleans and bfloat16 are returned as is.

    The random numbers are those of the seed and of the array's `index` among the others.
    """
    if array.dtype not in (np.float16, np.float32, np.float64):
        return array
    rng = np.random.Generator(np.random.SFC64([seed, index]))
    return floor.perturb(array, rng, dtype=array.dtype)


class _FrameworkRuns:
    """The framework's outputs, from as few runs as possible, and the replicates of each.

    Smaller batches are rows of the largest. Where these do not agree with the graph (a model may
    mix the rows of a batch), the framework is run at that N itself before the export is refused.
    """

    def __init__(self, function: ModelFunction, inputs: Sequence[Array], rows: int) -> None:
        self.function = function
        self.inputs = [_perturb_last_row(a[:rows], i) for i, a in enumerate(inputs)]
        self.rows = rows
        self.runs: dict[int, list[Array]] = {}
        self.replicates = [_Replicates(floor.unit_roundoff(a.dtype)) for a in self.run_at(rows)]
        for replicates, array in zip(self.replicates, self.run_at(rows), strict=True):
            if rows > 1 and array.ndim and len(array) == rows:
                error = _measure_effect(array[-1:], array[:1])
                if error.rel_l2 <= _ROUNDING_LIMIT:
                    replicates.by_input.append(error)

    def run_at(self, batch: int) -> list[Array]:
        """Return the framework's outputs at this N."""
        if batch not in self.runs:
            try:
                arrays = self.function([array[:batch] for array in self.inputs])
            except Exception as error:  # whatever a layer's own call raises
                message = f"the model itself fails at N={batch}: {first_line(error)}"
                raise ExportError(message) from error
            self.runs[batch] = [np.asarray(array) for array in arrays]
        return self.runs[batch]

    def rows_of_largest(self, batch: int) -> list[Array]:
        """Return the first rows of the largest run's outputs, or those at N without rows."""
        largest = self.runs[self.rows]
        if batch in self.runs or any(a.ndim == 0 or len(a) != self.rows for a in largest):
            return self.run_at(batch)
        return [array[:batch] for array in largest]

    def run_replicate(self) -> bool:
        """Run one more replicate, on one row; return False if there are `REPLICATES` already."""
        seed = len(self.replicates[0].by_weights) if self.replicates else REPLICATES
        if seed >= REPLICATES:
            return False
        inputs = [perturb(a[:1], seed=seed, index=i) for i, a in enumerate(self.inputs)]
        results = [np.asarray(array) for array in self.function(inputs, seed=seed)]
        plain = self.rows_of_largest(1)
        if any(
            _measure_effect(a, e).rel_l2 > _ROUNDING_LIMIT
            for a, e in zip(results, plain, strict=True)
        ):
            # So large an effect may come from the other rows: compare at the same N.
            plain = self.run_at(1)
        for replicates, actual, expected in zip(self.replicates, results, plain, strict=True):
            error = _measure_effect(actual, expected)
            if error.mismatch:
                raise ExportError(f"an output of the perturbed model has {error.mismatch}")
            replicates.by_weights.append(error)
        return True


def _perturb_last_row(array: Array, index: int) -> Array:
    """Replace the last row by the first, perturbed."""
    array = array.copy()
    if len(array) > 1:
        array[-1:] = perturb(array[:1], seed=REPLICATES, index=index)
    return array


def _measure_effect(actual: Array, plain: Array) -> ErrorMetrics:
    """Measure how far a replicate moved an output; integers must agree exactly, so 0 for them."""
    if plain.dtype.kind != "f" and actual.shape == plain.shape:
        return ErrorMetrics(0.0, 0.0)
    return _measure_error(actual=actual, expected=plain)


def _judge(expected: _FrameworkRuns, actual: Mapping[str, Array], batch: int) -> list[Check]:
    """Check every output at one N, with more runs of the framework as long as one fails."""
    compared = list(actual.items())[: len(expected.replicates)]
    if len(compared) < len(expected.replicates):
        raise ExportError(f"expected {len(expected.replicates)} outputs, found {len(compared)}")
    checks = _check_outputs(expected, expected.rows_of_largest(batch), compared, batch)
    if not all(check.passed for check in checks):
        checks = _check_outputs(expected, expected.run_at(batch), compared, batch)
    while not all(check.passed for check in checks) and expected.run_replicate():
        checks = _check_outputs(expected, expected.run_at(batch), compared, batch)
    return checks


def _check_outputs(
    expected: _FrameworkRuns,
    outputs: Sequence[Array],
    actual: Sequence[tuple[str, Array]],
    batch: int,
) -> list[Check]:
    checks = []
    for (name, array), output, replicates in zip(actual, outputs, expected.replicates, strict=True):
        if array.shape != output.shape:
            raise ExportError(
                f"{name} at N={batch}: expected shape {output.shape}, found {array.shape}"
            )
        error = _measure_error(actual=array, expected=output)
        bound_max_abs, bound_rel_l2 = replicates.bounds(error.scale)
        checks.append(Check(name, batch, error.max_abs, bound_max_abs, error.rel_l2, bound_rel_l2))
    return checks


def _measure_error(*, actual: Array, expected: Array) -> ErrorMetrics:
    """Measure a difference; relative to an output of zeros, any difference is infinite.

    Raises ExportError if no number of the output is finite: nothing would be compared.
    """
    if expected.size and not np.isfinite(expected).any():
        raise ExportError("the model's outputs are not finite on the input it is verified on")
    error = measure_error(actual=actual, expected=expected)
    return replace(error, rel_l2=math.inf) if error.max_abs and not error.scale else error
