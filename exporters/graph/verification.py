"""Verification that an ONNX file is valid, loads, and computes the same as the framework.

The framework itself is run at every size that the file claims (N = 1, 2, 3, and several values of
each other size that varies), and again on extreme inputs and on inputs with ties and zeros.

The allowed difference of two correct programs is measured. The framework itself is run again with
every weight and input multiplied by 1 + U(-1, 1) * eps, the smallest change in the precision that
it computes in: the effect on an output is the *floor*, the distance that rounding alone explains in
this network (`parity.numerics.floor`). A correct float32 run of a residual network lies within
about twice the floor of the float64 result, so an export passes when it lies within `LIMIT` floors
of the framework, both in the L2 norm and at its worst element (so that one wrong element among many
cannot hide). A floor is never below one unit roundoff of the output's own scale, and a floor above
`_LARGEST_FLOOR` proves nothing and is refused.

Too small a floor only makes the check stricter, so that the cheapest estimate comes first: the last
row of the batch is the first one with its input perturbed, which costs no run. Where that does not
explain the difference, the weights are perturbed too, up to `REPLICATES` times, and then the
framework is run in float64, before an export is refused.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from exporters.errors import ExportError, first_few, first_line
from exporters.graph.checks import check_model, check_randomness
from exporters.graph.edits import input_names
from exporters.graph.model import WeightedModel
from exporters.graph.samples import (
    BATCH,
    UNKNOWN_SIZE,
    InputSpec,
    add_words,
    describe_inputs,
    draw_extremes,
    draw_normal,
    draw_ties,
    find_domain,
    gathered_sizes,
    varying_sizes,
    with_kind,
)
from exporters.graph.session_process import SessionProcess, get_shared_process
from parity.numerics import floor
from parity.numerics.distance import ErrorMetrics, measure_error

Array = NDArray[Any]

LIMIT = 8.0  # each of the two runs within 4 floors of the exact result

REPLICATES = 5
"""Runs with perturbed weights at most; unlike the floor's own, none of them is the plain run."""

BATCHES = (1, 2, 3)

# A perturbation that moves an output by more than this (relative L2) may not be rounding, but the
# effect of other rows of the batch.
_ROUNDING_LIMIT = 2.0**-15

# A float32 run that is further than this from the float64 one has not only rounded: the module does
# something else in float64.
_WIDE_LIMIT = 2.0**-9

_LARGEST_FLOOR = 2.0**-8
"""The largest floor (relative L2) in float32 that still proves anything."""

_NUMBERS = 4096
_MOST_ROWS = 128
_MOST_WORK = 100_000_000
"""Numbers that an additional case tries for a small input; its most rows; weights times rows."""

_ATTEMPTS = 4

_SHRINK = 10.0
_SMALLEST_EXTREME = 5.0


class ModelFunction(Protocol):
    """A framework's model as a function of arrays.

    Inputs and outputs are in the order and layout of the graph's. With a `seed`, the weights are
    perturbed first (`perturb`); the model itself never changes. Random numbers, if the model draws
    any, differ from call to call.
    """

    def __call__(self, inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]: ...


@dataclass(frozen=True)
class Reference:
    """The framework's side of a verification.

    `wide` runs the model in float64, or raises. `roundoff` returns the unit roundoff of the lowest
    precision that the model computes in, which may be below that of its outputs; it is called after
    a run of `function`. `example` holds inputs that are known to be legal, of any batch.
    """

    function: ModelFunction
    wide: Callable[[Sequence[Array]], list[Array]] | None = None
    roundoff: Callable[[], float] | None = None
    example: Sequence[Array] | None = None
    largest: float = 200.0
    """The largest magnitude of an extreme input."""
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    requested: frozenset[str] = frozenset()
    """The sizes that a caller asked to vary: one that takes a single value is refused."""


@dataclass(frozen=True)
class Check:
    """One output on one set of inputs: its error, and the most that rounding explains.

    `batch` is N; `inputs` says what was fed ("normal", "extreme", "ties", "sample", or sizes).
    """

    output: str
    batch: int
    max_abs: float
    bound_max_abs: float
    rel_l2: float
    bound_rel_l2: float
    inputs: str = "normal"
    floor_too_large: bool = False

    @property
    def explained(self) -> bool:
        """Return whether rounding explains the error."""
        return self.max_abs <= self.bound_max_abs and self.rel_l2 <= self.bound_rel_l2

    @property
    def passed(self) -> bool:
        return self.explained and not self.floor_too_large

    def __str__(self) -> str:
        kind = "" if self.inputs in ("normal", "sample") else f" ({self.inputs} inputs)"
        text = (
            f"{self.output} at N={self.batch}{kind}: max abs {self.max_abs:.3g}"
            f" (rounding explains {self.bound_max_abs:.3g}), relative L2 {self.rel_l2:.3g}"
            f" (rounding explains {self.bound_rel_l2:.3g})"
        )
        if self.floor_too_large:
            text += "; so much rounding proves nothing"
        return text


@dataclass(frozen=True)
class Verification:
    """The checks of a file that passed, and what they leave open.

    `other_checks` are those of other sizes, more rows, extreme inputs and ties.
    """

    checks: tuple[Check, ...]
    other_checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    """Outputs that depend on an input in the graph but never changed: nothing was proved of them
    with these weights."""
    feeds: tuple[Mapping[str, Array], ...] = field(default=(), repr=False)
    """The inputs of each kind that the file was run on, by name."""


@dataclass
class _Replicates:
    """How far one output moved when the input alone, or the weights too, were perturbed."""

    roundoff: float
    by_input: list[ErrorMetrics] = field(default_factory=list)
    by_weights: list[ErrorMetrics] = field(default_factory=list)
    by_precision: list[ErrorMetrics] = field(default_factory=list)
    unstable: Array | None = None  # elements of an integer output that rounding changed

    def floor(self, scale: float) -> tuple[float, float]:
        """Return the largest (max_abs, rel_l2) floor, for magnitudes `scale`."""
        floors = [
            floor.compute_floor(
                [replace(error, scale=scale) for error in errors or [ErrorMetrics(0.0, 0.0)]],
                roundoff=self.roundoff,
            )
            for errors in (self.by_input, self.by_weights, self.by_precision)
        ]
        return max(f.max_abs for f in floors), max(f.rel_l2 for f in floors)


@dataclass(frozen=True)
class _Case:
    """Inputs of one kind, at the largest N, and the smaller N that their first rows are run at."""

    label: str
    inputs: list[Array]
    axes: tuple[int | None, ...]  # the batch axis of each input
    rows: int
    batches: tuple[int, ...]
    inputs_too: bool = True  # whether a replicate perturbs the inputs, or the weights alone

    def first(self, batch: int) -> list[Array]:
        """Return the inputs of the first `batch` samples."""
        return [
            array if axis is None else _take(array, axis, slice(0, batch))
            for array, axis in zip(self.inputs, self.axes, strict=True)
        ]


def verify(
    model: WeightedModel,
    path: Path,
    reference: Reference | ModelFunction,
    sample: Sequence[Array] | None = None,
    *,
    batches: Sequence[int] = BATCHES,
) -> Verification:
    """Compare `model`, written at `path`, with the framework at every size that it claims.

    `sample`: inputs to run on instead of drawn ones, one array for each input of the graph; rows
    that it lacks for the largest N are made of its own. The graph's outputs after the function's
    (taps) are run but not compared. Raises ExportError with the numbers when an output differs by
    more than rounding.
    """
    if not isinstance(reference, Reference):
        reference = Reference(reference)
    check_randomness(model)
    session = get_shared_process()
    with ThreadPoolExecutor(1) as pool:
        # ONNX Runtime loads on one core while the graph is checked and the framework computes.
        loading = pool.submit(session.load, path)
        try:
            check_model(model)
            proof = _Proof(model, reference, sample, batches)
        finally:
            names = loading.result()
    try:
        return proof.run(session, names)
    finally:
        session.release()


def draw_samples(
    values: Sequence[onnx.ValueInfoProto], *, rows: int = 3, seed: int = 0
) -> list[Array]:
    """Draw seeded arrays for a graph's inputs: normal, or 0 and 1 for integers and booleans.

    A size that varies, other than the batch's, is 32.
    """
    specs = describe_inputs(values)
    sizes = dict.fromkeys(varying_sizes(specs), UNKNOWN_SIZE) | {BATCH: rows}
    return draw_normal(specs, sizes, seed=seed)


def perturb(array: Array, *, seed: int, index: int = 0, roundoff: float | None = None) -> Array:
    """Perturb an array by one unit of its own precision, or of a lower one.

    Integers and booleans are returned as they are. The random numbers are those of the seed and of
    the array's `index` among the others. `roundoff`: the unit roundoff of the lower precision.
    """
    rng = np.random.Generator(np.random.SFC64([seed, index]))
    own = _roundoff(array.dtype)
    if not own:
        return array
    if array.dtype.name == "bfloat16" or (roundoff or 0.0) > own:
        wide = array.astype(np.float32)
        change = rng.uniform(-1.0, 1.0, array.shape) * 2.0 * max(own, roundoff or 0.0)
        return np.asarray(wide * (1.0 + change)).astype(array.dtype)
    return floor.perturb(array, rng, dtype=array.dtype)


def _roundoff(dtype: np.dtype[Any]) -> float:
    """Return the unit roundoff; 0 for integers and booleans."""
    return 2.0**-8 if dtype.name == "bfloat16" else floor.unit_roundoff(dtype)


class _Framework:
    """The framework's runs on the inputs of one case, and the replicates of each output."""

    def __init__(self, case: _Case, reference: Reference) -> None:
        self.case = case
        self.reference = reference
        self.runs: dict[int, list[Array]] = {}
        self.failures: dict[int, str] = {}
        self.replicates: list[_Replicates] = []
        self.attempts = 0
        self.widened = False
        self.shared = False
        """Whether `runs` is a part of a run that other cases share."""

    def run_alone(self) -> None:
        """Run the inputs of this case by themselves, after a run that other cases shared."""
        self.shared = False
        batches = list(self.runs)
        self.runs = {}
        for batch in batches:
            self.run_at(batch)
        self.measure_input_floor()

    def run_at(self, batch: int) -> list[Array]:
        """Return the framework's outputs on the first `batch` samples. Raises ExportError."""
        if batch not in self.runs:
            self.runs[batch] = call(self.reference.function, self.case.first(batch), batch)
        return self.runs[batch]

    def measure_input_floor(self) -> None:
        """Compare the last row of the largest N with the first, of which it is a copy, perturbed.

        Only where an output's axis 0 is seen to count the samples, at each N that was run.
        """
        largest = self.runs[self.case.rows]
        lowest = self.reference.roundoff() if self.reference.roundoff else 0.0
        self.replicates = [
            _Replicates(max(_roundoff(a.dtype), lowest) if _roundoff(a.dtype) else 0.0)
            for a in largest
        ]
        if not self.case.inputs_too or self.case.rows < 2 or None in self.case.axes:
            return
        for index, (replicates, array) in enumerate(zip(self.replicates, largest, strict=True)):
            counts = all(
                run[index].ndim and len(run[index]) == batch for batch, run in self.runs.items()
            )
            if counts and len(self.runs) > 1 and replicates.roundoff:
                error = _measure_effect(array[-1:], array[:1])
                if error.rel_l2 <= max(_ROUNDING_LIMIT, 2.0**6 * replicates.roundoff):
                    replicates.by_input.append(error)

    def take_floor(self, other: _Framework) -> None:
        """Take the floor of the same network on other inputs, relative to each output's scale.

        It is a first estimate: what it does not explain costs replicates of this case.
        """
        outputs = self.runs[self.case.rows]
        for replicates, known, output in zip(
            self.replicates, other.replicates, outputs, strict=True
        ):
            scale = float(np.abs(output).max()) if output.size and replicates.roundoff else 0.0
            if not replicates.by_input:
                replicates.by_input += [
                    replace(error, max_abs=error.max_abs / error.scale * scale)
                    for error in known.by_input
                    if error.scale
                ]

    def run_replicate(self) -> bool:
        """Run one more replicate; return False if there is none left.

        It is run at the smallest N: `REPLICATES` times with other weights, then once in float64.
        """
        batch = min(self.runs)
        plain = self.run_at(batch)
        if self.attempts < REPLICATES:
            seed = self.attempts
            self.attempts += 1
            inputs = self.case.first(batch)
            if self.case.inputs_too:
                lowest = max((r.roundoff for r in self.replicates), default=0.0)
                inputs = [
                    perturb(a, seed=seed, index=i, roundoff=lowest) for i, a in enumerate(inputs)
                ]
            results = [np.asarray(a) for a in self.reference.function(inputs, seed=seed)]
            self._record(results, plain, "by_weights")
            return True
        if self.widened or self.reference.wide is None:
            return False
        self.widened = True
        try:
            results = self.reference.wide(self.case.first(batch))
        except Exception:  # noqa: BLE001 - a model need not run in float64; then nothing is added
            return False
        self._record_wide(results, plain)
        return True

    def _record(self, results: Sequence[Array], plain: Sequence[Array], kind: str) -> None:
        for replicates, actual, expected in zip(self.replicates, results, plain, strict=True):
            error = _measure_effect(actual, expected)
            if error.mismatch:
                raise ExportError(f"an output of the perturbed model has {error.mismatch}")
            getattr(replicates, kind).append(error)
            if not replicates.roundoff:
                changed = actual != expected
                before = replicates.unstable
                replicates.unstable = changed if before is None else before | changed

    def _record_wide(self, results: Sequence[Array], plain: Sequence[Array]) -> None:
        """Add the distance to a float64 run, where it is small enough to be rounding."""
        for replicates, actual, expected in zip(self.replicates, results, plain, strict=True):
            if actual.shape != expected.shape or not replicates.roundoff:
                continue
            error = _measure_effect(actual, expected)
            limit = max(_WIDE_LIMIT, 2.0**4 * replicates.roundoff)
            if error.rel_l2 <= limit and error.max_abs <= limit * error.scale * 4:
                replicates.by_precision.append(error)


class _Proof:
    """One verification: its cases, the framework's runs on them, and the checks of each."""

    def __init__(
        self,
        model: WeightedModel,
        reference: Reference,
        sample: Sequence[Array] | None,
        batches: Sequence[int],
    ) -> None:
        graph = model.skeleton.graph
        self.model = model
        self.reference = reference
        self.notes: list[str] = []
        self.specs = add_words(describe_inputs(graph.input), graph)
        self.has_batch = BATCH in varying_sizes(self.specs)
        self.batches = tuple(sorted(batches)) if self.has_batch else (1,)
        self.rows = max(self.batches)
        self.sizes = {
            name: tuple(reference.sizes.get(name, (UNKNOWN_SIZE,)))
            for name in varying_sizes(self.specs)
            if name != BATCH
        }
        self.axes = tuple(spec.batch_axis for spec in self.specs)
        if sample is None:
            self.specs = find_domain(
                self.specs, gathered_sizes(graph, model.tensors), self._accepts, reference.example
            )
        self.extra = min(2, self.rows)
        self.frameworks = [self._run_framework(self._base_framework(sample))]
        self._check_repeatability()
        if sample is None:
            self.extra = self._extra_rows()
            self._add_sizes()
            self._add_other_inputs()

    def run(self, session: SessionProcess, names: Sequence[str]) -> Verification:
        """Run the file on every case. Raises ExportError where it differs."""
        checks: list[Check] = []
        for framework in self.frameworks:
            for batch in framework.case.batches:
                if batch in framework.failures:
                    continue
                feeds = self._feeds(framework, batch)
                try:
                    actual = session.run(feeds, f"running the file at N={batch}")
                except ExportError as error:
                    if "crashed" in str(error):
                        raise
                    raise ExportError(f"ONNX Runtime fails at N={batch}: {error}") from error
                checks += self._judge(framework, dict(zip(names, actual, strict=True)), batch)
        failed = [str(check) for check in checks if not check.passed]
        if failed:
            more = f"; and {len(failed) - 6} more" if len(failed) > 6 else ""
            raise ExportError(
                "the exported graph computes something else: " + "; ".join(failed[:6]) + more
            )
        constant = tuple(self._constant_outputs(names))
        return Verification(
            checks=tuple(check for check in checks if check.inputs in ("normal", "sample")),
            other_checks=tuple(c for c in checks if c.inputs not in ("normal", "sample")),
            notes=tuple(dict.fromkeys(self.notes)),
            constant=constant,
            feeds=tuple(self._feeds(f, f.case.rows) for f in self.frameworks),
        )

    def _feeds(self, framework: _Framework, batch: int) -> dict[str, Array]:
        """Return the file's inputs at one N."""
        names = (spec.name for spec in self.specs)
        return dict(zip(names, framework.case.first(batch), strict=True))

    def _base_framework(self, sample: Sequence[Array] | None) -> _Framework:
        if sample is None:
            return self._finite_framework()
        case = self._case("sample", self._complete(sample), self.batches)
        return _Framework(case, self.reference)

    def _finite_framework(self) -> _Framework:
        """Return drawn inputs that the framework computes finite numbers of, where it does."""
        first = None
        drawn = self.specs
        attempts = [*((drawn, seed) for seed in range(_ATTEMPTS))]
        attempts += [(with_kind(drawn, kind), 0) for kind in ("unit", "positive")]
        for specs, seed in attempts:
            arrays = draw_normal(specs, self._draw_sizes(self.rows), seed=seed)
            framework = _Framework(self._case("normal", arrays, self.batches), self.reference)
            first = first or framework
            with contextlib.suppress(ExportError):  # an input may be illegal beside another
                if all(_is_finite(array) for array in framework.run_at(self.rows)):
                    self.specs = specs
                    return framework
        return cast("_Framework", first)

    def _case(
        self, label: str, arrays: Sequence[Array], batches: Sequence[int], *, copy: bool = True
    ) -> _Case:
        rows = max(batches)
        arrays = [np.array(array) for array in arrays]
        if copy and rows > 1:
            for index, (array, axis) in enumerate(zip(arrays, self.axes, strict=True)):
                if axis is not None:
                    first = _take(array, axis, slice(0, 1))
                    last = _take(array, axis, slice(rows - 1, rows))
                    last[...] = perturb(first, seed=REPLICATES, index=index)
        return _Case(label, arrays, self.axes, rows, tuple(batches), inputs_too=copy)

    def _draw_sizes(self, batch: int, **sizes: int) -> dict[str, int]:
        return {name: values[0] for name, values in self.sizes.items()} | {BATCH: batch} | sizes

    def _complete(self, sample: Sequence[Array]) -> list[Array]:
        """Return the sample with as many rows as the largest N, made of its own where it is short.

        A row is repeated with its numbers a little smaller, or its integers in another order.
        """
        if isinstance(sample, np.ndarray | str) or not isinstance(sample, Sequence):
            raise ExportError(
                "sample: expected a list of one array for each input, found"
                f" {type(sample).__name__}"
            )
        if len(sample) != len(self.specs):
            raise ExportError(
                f"sample: expected {len(self.specs)} arrays, one for each input"
                f" ({', '.join(spec.name for spec in self.specs)}), found {len(sample)}"
            )
        arrays = []
        for spec, given in zip(self.specs, sample, strict=True):
            array, axis = np.asarray(given), spec.batch_axis
            if array.ndim != len(spec.sizes):
                raise ExportError(
                    f"sample of {spec.name!r}: expected {len(spec.sizes)} axes"
                    f" {list(spec.sizes)}, found the shape {list(array.shape)}"
                )
            array = array.astype(spec.dtype, copy=False)
            while axis is not None and array.shape[axis] < self.rows:
                if not array.shape[axis]:
                    raise ExportError(f"sample of {spec.name!r}: it has no row")
                row = _take(array, axis, slice(0, 1))
                if spec.is_integer:
                    row = np.roll(row.reshape(-1), array.shape[axis]).reshape(row.shape)
                else:
                    row = row * row.dtype.type(1.0 - 0.125 * array.shape[axis])
                array = np.concatenate([array, row.astype(spec.dtype)], axis)
            if axis is not None:
                array = _take(array, axis, slice(0, self.rows))
            arrays.append(array)
        return arrays

    def _accepts(self, specs: Sequence[InputSpec]) -> bool:
        """Return whether the framework computes finite numbers on inputs drawn by `specs`."""
        batch = min(2, self.rows)
        try:
            arrays = draw_normal(specs, self._draw_sizes(batch), seed=1)
            results = self.reference.function(arrays)
        except Exception:  # noqa: BLE001 - whatever a layer raises of an input that is illegal
            return False
        return all(_is_finite(np.asarray(array)) for array in results)

    def _run_case(self, case: _Case) -> _Framework:
        return self._run_framework(_Framework(case, self.reference))

    def _run_framework(self, framework: _Framework) -> _Framework:
        """Run the framework at every N; one below the largest that it refuses is not claimed."""
        case = framework.case
        framework.run_at(case.rows)
        for batch in sorted(case.batches, reverse=True):
            try:
                framework.run_at(batch)
            except ExportError as error:
                framework.failures[batch] = str(error)
                self.notes.append(f"N={batch} was not verified: {error}")
        framework.measure_input_floor()
        return framework

    def _check_repeatability(self) -> None:
        """Raise ExportError if the model gives other numbers for the same input.

        The first row at the smallest N and at the largest are two runs; only where they differ (a
        model may mix the rows) is the framework run once more.
        """
        runs = self.frameworks[0].runs
        small = min(runs)
        if self._keeps_rows_apart():
            return
        again = call(self.reference.function, self.frameworks[0].case.first(small), small)
        for index, (first, second) in enumerate(zip(runs[small], again, strict=True)):
            if first.shape != second.shape or not (
                _measure_effect(second, first).rel_l2 <= _ROUNDING_LIMIT
                and (first.dtype.kind == "f" or np.array_equal(first, second))
            ):
                raise ExportError(
                    f"output {index} of the model itself differs between two runs on the same"
                    " input: it draws random numbers, or keeps a state; no file can be compared"
                    " with it: make it deterministic, or give the noise or the state as an input"
                )

    def _keeps_rows_apart(self) -> bool:
        """Return whether the first rows at the smallest N and at the largest are the same."""
        runs = self.frameworks[0].runs
        small, large = min(runs), max(runs)
        return small != large and all(
            a.shape[1:] == b.shape[1:]
            and a.ndim
            and _measure_effect(b[: len(a)], a).rel_l2 <= _ROUNDING_LIMIT
            for a, b in zip(runs[small], runs[large], strict=True)
        )

    def _counts_rows(self) -> bool:
        """Return whether axis 0 of every input and output was seen to count samples."""
        runs = self.frameworks[0].runs
        return (
            len(runs) > 1
            and all(axis == 0 for axis in self.axes)
            and all(a.ndim and len(a) == batch for batch, run in runs.items() for a in run)
        )

    def _add_sizes(self) -> None:
        """Add cases of each other size that varies, those that the framework takes.

        Raises ExportError where a size that was asked for takes one value alone.
        """
        for name, values in self.sizes.items():
            refusals = [self._add_size(name, value) for value in values[1:]]
            if name in self.reference.requested and refusals and all(refusals):
                raise ExportError(
                    f"dynamic: the model takes no other size {name} than {values[0]}:"
                    f" {refusals[-1]}"
                )

    def _add_size(self, name: str, value: int) -> str:
        """Add the case of another value of a size; return why the framework refuses it, or ""."""
        batch = min(2, self.rows)
        arrays = draw_normal(self.specs, self._draw_sizes(batch, **{name: value}), seed=3 + value)
        label = f"{name}={value}"
        try:
            self.frameworks.append(self._run_case(self._case(label, arrays, (batch,))))
        except ExportError as error:
            self.notes.append(f"{label} was not verified: {error}")
            return str(error)
        return ""

    def _extra_rows(self) -> int:
        """Return the N of the additional cases: more for a small input, to try more numbers."""
        if not self.has_batch:
            return 1
        shapes = [spec.shape(self._draw_sizes(1)) for spec in self.specs]
        numbers = sum(math.prod(shape) for shape in shapes)
        weights = sum(array.size for array in self.model.tensors.values())
        wanted = min(_MOST_ROWS, _NUMBERS // max(numbers, 1), _MOST_WORK // max(weights, 1))
        return max(min(2, self.rows), wanted)

    def _add_other_inputs(self) -> None:
        """Add cases of many rows, of extreme inputs and of ties.

        A model that keeps its rows apart runs on all of them at once, which costs one run; a part
        that is not finite, or that does not agree, is run by itself.
        """
        cases = self._other_cases()
        shared = self._run_together(cases) if len(cases) > 1 else {}
        if self.extra > self.rows and not self._add_many(cases["more"], shared.get("more")):
            self.extra = min(2, self.rows)
            cases = self._other_cases()
        if all(spec.is_integer for spec in self.specs):
            return
        self._add_extremes(cases["extreme"], shared.get("extreme"))
        ties = shared.get("ties") or _Framework(cases["ties"], self.reference)
        if not self._add_finite(ties):
            self.notes.append("ties were not verified: the model's outputs are not finite")

    def _other_cases(self) -> dict[str, _Case]:
        cases: dict[str, _Case] = {}
        sizes = self._draw_sizes(self.extra)
        if self.extra > self.rows:
            # A few numbers miss what is rarely wrong.
            cases["more"] = self._case(
                "more", draw_normal(self.specs, sizes, seed=4), (self.extra,)
            )
        if not all(spec.is_integer for spec in self.specs):
            cases["extreme"] = self._extreme_case(self.extra, self.reference.largest)
            # The order of equal numbers and the sign of 0 count.
            ties = draw_ties(self.specs, sizes, seed=6)
            cases["ties"] = self._case("ties", ties, (self.extra,), copy=False)
        return cases

    def _extreme_case(self, batch: int, largest: float) -> _Case:
        arrays = draw_extremes(self.specs, self._draw_sizes(batch), seed=5, largest=largest)
        return self._case("extreme", arrays, (batch,))

    def _run_together(self, cases: Mapping[str, _Case]) -> dict[str, _Framework]:
        """Run the framework once on the rows of all cases; return nothing where it cannot be."""
        if not (self._counts_rows() and self._keeps_rows_apart()):
            return {}
        together = [
            np.concatenate(arrays)
            for arrays in zip(*(case.inputs for case in cases.values()), strict=True)
        ]
        rows = sum(case.rows for case in cases.values())
        try:
            outputs = call(self.reference.function, together, rows)
        except ExportError:
            return {}
        if not all(a.ndim and len(a) == rows for a in outputs):
            return {}
        found, start = {}, 0
        for label, case in cases.items():
            framework = _Framework(case, self.reference)
            framework.runs[case.rows] = [a[start : start + case.rows] for a in outputs]
            framework.shared = True
            found[label] = framework
            start += case.rows
        return found

    def _add_many(self, case: _Case, shared: _Framework | None) -> bool:
        """Add the case of many rows; return whether the framework takes as many."""
        try:
            framework = self._run_framework(shared or _Framework(case, self.reference))
        except ExportError as error:
            self.notes.append(f"N={self.extra} was not verified: {error}")
            return False
        framework.take_floor(self.frameworks[0])
        self.frameworks.append(framework)
        return True

    def _add_extremes(self, case: _Case, shared: _Framework | None) -> None:
        """Add a case of extreme inputs, as large as the framework computes finite numbers of."""
        largest = self.reference.largest
        framework = shared or _Framework(case, self.reference)
        while not self._add_finite(framework):
            largest /= _SHRINK
            if largest <= _SMALLEST_EXTREME:
                self.notes.append(
                    "extreme inputs were not verified: the model's outputs are not finite"
                )
                return
            framework = _Framework(self._extreme_case(self.extra, largest), self.reference)

    def _add_finite(self, framework: _Framework) -> bool:
        """Add a case unless the framework fails, or computes numbers that are not finite."""
        try:
            self._run_framework(framework)
        except ExportError:
            return False
        if not all(_is_finite(array) for array in framework.runs[framework.case.rows]):
            return False
        framework.take_floor(self.frameworks[0])
        self.frameworks.append(framework)
        return True

    def _judge(self, framework: _Framework, actual: Mapping[str, Array], batch: int) -> list[Check]:
        """Check every output at one N, with more runs of the framework as long as one fails."""
        compared = list(actual.items())[: len(framework.replicates)]
        if len(compared) < len(framework.replicates):
            raise ExportError(
                f"expected {len(framework.replicates)} outputs, found {len(compared)}"
            )
        checks = _check_outputs(framework, compared, batch)
        if framework.shared and not all(check.passed for check in checks):
            framework.run_alone()
            checks = _check_outputs(framework, compared, batch)
        while not all(check.passed for check in checks) and framework.run_replicate():
            checks = _check_outputs(framework, compared, batch)
        sorts = any(node.op_type == "TopK" for node in self.model.skeleton.graph.node)
        passed = [check for check in checks if check.passed]
        if framework.case.label == "ties" and sorts and len(passed) < len(checks):
            # No framework promises an order of equal values unless it sorts stably.
            self.notes.append("equal values are ordered otherwise than in the framework")
            return passed
        unclear = [check for check in checks if check.explained and check.floor_too_large]
        label = framework.case.label
        if label in ("extreme", "ties") and unclear:
            # So far from its usual inputs the model amplifies rounding to the size of its outputs.
            names = first_few([check.output for check in unclear])
            self.notes.append(
                f"{label} inputs prove nothing of {names}: rounding explains too much"
            )
            return [check for check in checks if check not in unclear]
        return checks

    def _constant_outputs(self, names: Sequence[str]) -> list[str]:
        """Return the outputs that depend on an input and never changed with it."""
        dependent = _dependent_tensors(self.model.skeleton.graph)
        constant = []
        runs = [run for f in self.frameworks for run in f.runs.values()]
        for index, name in enumerate(names[: len(runs[0])]):
            arrays = [run[index] for run in runs if run[index].size]
            if arrays and all((a == arrays[0].reshape(-1)[0]).all() for a in arrays):
                value = arrays[0].reshape(-1)[0]
                if name in dependent:
                    constant.append(name)
                    self.notes.append(f"{name} was {value} on every input")
                else:
                    self.notes.append(f"{name} is a constant, {value}")
        return constant


def call(function: ModelFunction, inputs: Sequence[Array], batch: int) -> list[Array]:
    """Return the framework's outputs. Raises ExportError with the framework's own reason."""
    try:
        return [np.asarray(array) for array in function(inputs)]
    except Exception as error:  # whatever a layer's own call raises
        raise ExportError(f"the model itself fails at N={batch}: {first_line(error)}") from error


def _take(array: Array, axis: int, part: slice) -> Array:
    return array[(slice(None),) * axis + (part,)]


def _is_finite(array: Array) -> bool:
    return array.dtype.kind not in "fVc" or bool(np.isfinite(array.astype(np.float64)).all())


def _dependent_tensors(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that depend on an input of the graph."""
    known = {value.name for value in graph.input}
    for node in graph.node:
        if input_names(node) & known:
            known.update(node.output)
    return known


def _measure_effect(actual: Array, plain: Array) -> ErrorMetrics:
    """Measure how far a replicate moved an output; integers must agree exactly, so 0 for them."""
    if not _roundoff(plain.dtype) and actual.shape == plain.shape:
        return ErrorMetrics(0.0, 0.0)
    return _measure_error(actual=actual, expected=plain)


def _check_outputs(
    framework: _Framework, actual: Sequence[tuple[str, Array]], batch: int
) -> list[Check]:
    checks = []
    outputs = framework.run_at(batch)
    smallest = min(framework.runs)
    for (name, found), output, replicates in zip(
        actual, outputs, framework.replicates, strict=True
    ):
        array, label = found, framework.case.label
        if array.shape != output.shape:
            raise ExportError(
                f"{name} at N={batch}: expected shape {output.shape}, found {array.shape}"
            )
        if _roundoff(output.dtype) and label not in ("normal", "sample"):
            # Where the framework itself has no number, there is none to compare.
            array = np.where(np.isnan(output), output, array)
        if not replicates.roundoff and batch == smallest and replicates.unstable is not None:
            # Elements of an integer output that rounding changes in the framework itself.
            array = np.where(replicates.unstable & (array != output), output, array)
        error = _measure_error(actual=array, expected=output)
        max_abs, rel_l2 = replicates.floor(error.scale)
        largest = min(2.0**-4, max(_LARGEST_FLOOR, replicates.roundoff * 2.0**5))
        needed = error.rel_l2 > LIMIT * largest or (
            error.max_abs > LIMIT * largest * max(error.scale, 0.0)
        )
        checks.append(
            Check(
                name,
                batch,
                error.max_abs,
                LIMIT * max_abs,
                error.rel_l2,
                LIMIT * rel_l2,
                label,
                floor_too_large=bool(rel_l2 > largest and needed),
            )
        )
    return checks


def _measure_error(*, actual: Array, expected: Array) -> ErrorMetrics:
    """Measure a difference; relative to an output of zeros, any difference is infinite.

    Raises ExportError if no number of the output is finite: nothing would be compared.
    """
    if _roundoff(expected.dtype) and expected.dtype.kind != "f":
        expected = expected.astype(np.float32)
    if _roundoff(actual.dtype) and actual.dtype.kind != "f":
        actual = actual.astype(np.float32)
    if expected.size and not np.isfinite(expected).any():
        raise ExportError(
            "the model's outputs are not finite on the inputs it is verified on: check its weights,"
            " or give inputs that it takes as sample="
        )
    error = measure_error(actual=actual, expected=expected)
    return replace(error, rel_l2=math.inf) if error.max_abs and not error.scale else error
