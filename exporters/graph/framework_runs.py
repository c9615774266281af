"""The framework's runs on one case of inputs, and how far rounding alone moves its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError, first_line
from parity.numerics import floor
from parity.numerics.distance import ErrorMetrics, measure_error
from parity.numerics.rounding import unit_roundoff

Array = NDArray[Any]


REPLICATES = 5
"""Runs with perturbed weights at most; unlike the floor's own, none of them is the plain run."""


_JUMPS = 4
"""Runs with inputs that move by more than a unit."""


# A perturbation that moves an output by more than this (relative L2) may not be rounding, but the
# effect of other rows of the batch.
ROUNDING_LIMIT = 2.0**-15


# A float32 run that is further than this from the float64 one has not only rounded: the module does
# something else in float64.
_WIDE_LIMIT = 2.0**-9


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


@dataclass
class Replicates:
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
class Case:
    """Inputs of one kind, at the largest N, and the smaller N that their first rows are run at."""

    label: str
    inputs: list[Array]
    axes: tuple[int | None, ...]  # the batch axis of each input
    rows: int
    batches: tuple[int, ...]
    inputs_too: bool = True  # whether a replicate perturbs the inputs, or the weights alone
    largest: float = 0.0  # the largest magnitude of extreme inputs

    def first(self, batch: int) -> list[Array]:
        """Return the inputs of the first `batch` samples."""
        return [
            array if axis is None else take_rows(array, axis, slice(0, batch))
            for array, axis in zip(self.inputs, self.axes, strict=True)
        ]


class FrameworkRuns:
    """The framework's runs on the inputs of one case, and the replicates of each output."""

    def __init__(self, case: Case, reference: Reference) -> None:
        self.case = case
        self.reference = reference
        self.runs: dict[int, list[Array]] = {}
        self.failures: dict[int, str] = {}
        self.replicates: list[Replicates] = []
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
            Replicates(max(roundoff_of(a.dtype), lowest) if roundoff_of(a.dtype) else 0.0)
            for a in largest
        ]
        if not self.case.inputs_too or self.case.rows < 2 or None in self.case.axes:
            return
        for index, (replicates, array) in enumerate(zip(self.replicates, largest, strict=True)):
            counts = all(
                run[index].ndim and len(run[index]) == batch for batch, run in self.runs.items()
            )
            if counts and len(self.runs) > 1 and replicates.roundoff:
                error = measure_effect(array[-1:], array[:1])
                if error.rel_l2 <= max(ROUNDING_LIMIT, 2.0**6 * replicates.roundoff):
                    replicates.by_input.append(error)

    def take_floor(self, other: FrameworkRuns) -> None:
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

    def measure_jumps(self, batch: int, *, units: float) -> list[tuple[float, float]]:
        """Return how far (max abs, relative L2) each output moves where the inputs do.

        They move by as many units in their last place, a few times; the largest moves count.
        """
        plain = self.run_at(batch)
        inputs = self.case.first(batch)
        jumps = [(0.0, 0.0)] * len(plain)
        for seed in range(_JUMPS):
            moved = [
                perturb(a, seed=seed, index=i, roundoff=units * roundoff_of(a.dtype))
                for i, a in enumerate(inputs)
            ]
            results = call(self.reference.function, moved, batch)
            for index, (actual, expected) in enumerate(zip(results, plain, strict=True)):
                error = measure_output_error(actual=actual, expected=expected)
                if not error.mismatch:
                    largest, norm = jumps[index]
                    jumps[index] = max(largest, error.max_abs), max(norm, error.rel_l2)
        return jumps

    def _record(self, results: Sequence[Array], plain: Sequence[Array], kind: str) -> None:
        for replicates, actual, expected in zip(self.replicates, results, plain, strict=True):
            error = measure_effect(actual, expected)
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
            error = measure_effect(actual, expected)
            limit = max(_WIDE_LIMIT, 2.0**4 * replicates.roundoff)
            if error.rel_l2 <= limit and error.max_abs <= limit * error.scale * 4:
                replicates.by_precision.append(error)


def perturb(array: Array, *, seed: int, index: int = 0, roundoff: float | None = None) -> Array:
    """Perturb an array by one unit of its own precision, or of a lower one.

    Integers and booleans are returned as they are. The random numbers are those of the seed and of
    the array's `index` among the others. `roundoff`: the unit roundoff of the lower precision.
    """
    rng = np.random.Generator(np.random.SFC64([seed, index]))
    own = roundoff_of(array.dtype)
    if not own:
        return array
    if array.dtype.name == "bfloat16" or (roundoff or 0.0) > own:
        wide = array.astype(np.float32)
        change = rng.uniform(-1.0, 1.0, array.shape) * 2.0 * max(own, roundoff or 0.0)
        return np.asarray(wide * (1.0 + change)).astype(array.dtype)
    return floor.perturb(array, rng, dtype=array.dtype)


def call(function: ModelFunction, inputs: Sequence[Array], batch: int) -> list[Array]:
    """Return the framework's outputs. Raises ExportError with the framework's own reason."""
    try:
        return [np.asarray(array) for array in function(inputs)]
    except Exception as error:  # whatever a layer's own call raises
        raise ExportError(f"the model itself fails at N={batch}: {first_line(error)}") from error


def roundoff_of(dtype: np.dtype[Any]) -> float:
    """Return the unit roundoff; 0 for integers and booleans."""
    return 2.0**-8 if dtype.name == "bfloat16" else unit_roundoff(dtype)


def take_rows(array: Array, axis: int, part: slice) -> Array:
    return array[(slice(None),) * axis + (part,)]


def measure_effect(actual: Array, plain: Array) -> ErrorMetrics:
    """Measure how far a replicate moved an output; integers must agree exactly, so 0 for them."""
    if not roundoff_of(plain.dtype) and actual.shape == plain.shape:
        return ErrorMetrics(0.0, 0.0)
    return measure_output_error(actual=actual, expected=plain)


def measure_output_error(*, actual: Array, expected: Array) -> ErrorMetrics:
    """Measure a difference; relative to an output of zeros, any difference is infinite.

    Raises ExportError if no number of the output is finite: nothing would be compared.
    """
    if roundoff_of(expected.dtype) and expected.dtype.kind != "f":
        expected = expected.astype(np.float32)
    if roundoff_of(actual.dtype) and actual.dtype.kind != "f":
        actual = actual.astype(np.float32)
    if expected.size and not np.isfinite(expected).any():
        raise ExportError(
            "the model's outputs are not finite on the inputs it is verified on: check its weights,"
            " or give inputs that it takes as sample="
        )
    error = measure_error(actual=actual, expected=expected)
    return replace(error, rel_l2=math.inf) if error.max_abs and not error.scale else error
