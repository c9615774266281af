"""The rounding floor: the error that float32 rounding alone causes in a model on an input.

The formulas are those of docs/design.md, "The verdict".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.errors import CaptureError
from parity.numerics.checksum import allocate_aligned
from parity.numerics.distance import ErrorMetrics, measure_error

Array = NDArray[Any]

REPLICATES = 5
"""Number of float32 runs that a floor is measured on: one unperturbed, the others perturbed."""

ROUNDOFF = 2.0**-24
"""The unit roundoff of float32."""

# Number of elements perturbed at once: the factors stay in a core's cache.
_BLOCK = 16384

_FLOAT32 = np.dtype(np.float32)

PRECISION_FACTORS: Mapping[str, float] = {
    "float64": 2.0**-29,
    "float32": 1.0,
    "tf32": 2.0**13,
    "float16": 2.0**13,
    "bfloat16": 2.0**16,
}
"""By precision, the factor on the floor: its unit roundoff over float32's."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The error that rounding alone causes at one row, over the replicates."""

    rel_l2: float
    max_abs: float
    replicates: int
    scale: float
    """The largest ``|x64|`` of the row."""

    raised: float = 1.0
    """The factor by which the longest sum raised the measured floor: see `for_sum_length`."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the floor that ``to_json`` serialised. Raises ValueError for invalid fields."""
        floor = cls(**data)
        # Written so that NaN does not pass.
        for name, least in (("rel_l2", ROUNDOFF), ("max_abs", 0.0), ("raised", 1.0)):
            value = getattr(floor, name)
            if not isinstance(value, int | float) or not value >= least:
                raise ValueError(f"a floor's {name} is {value!r}, below {least:g}")
        return floor

    @classmethod
    def smallest(cls, terms: float) -> Floor:
        """Return what no floor of a row is below in ``rel_l2``, whatever its replicates show.

        `terms` is that of `for_sum_length`. ``max_abs`` is 0: its least is one roundoff of the
        row's scale.
        """
        return cls(ROUNDOFF * max(1.0, math.sqrt(terms / 6.0)), 0.0, 0, 0.0)

    def for_sum_length(self, terms: float) -> Floor:
        """Return the floor of a row where the longest sum, in it or before it, has `terms` terms.

        The error of a sum depends on the order of its terms: blocked sums, as in most kernels,
        have a far smaller error than the sqrt(terms / 6) roundoffs of one running sum (the root
        mean square of Higham & Mary, "A new approach to probabilistic rounding error analysis",
        2019, for terms of random sign). Both are rounding, so the larger is the floor.
        """
        factor = max(1.0, ROUNDOFF * math.sqrt(terms / 6.0) / self.rel_l2)
        return self._times(factor, raised=factor)

    def for_precision(self, precision: str) -> Floor:
        """Return the floor of another precision, one of ``PRECISION_FACTORS``.

        A lower precision rounds its operands to fewer bits and still accumulates in float32: only
        the measured part of the floor grows, and the part of the longest sum stays the same.
        """
        factor = PRECISION_FACTORS[precision]
        if factor <= 1.0:
            return self._times(factor, raised=self.raised)
        return self._times(max(factor / self.raised, 1.0), raised=max(self.raised / factor, 1.0))

    def _times(self, factor: float, *, raised: float) -> Floor:
        return replace(
            self, rel_l2=self.rel_l2 * factor, max_abs=self.max_abs * factor, raised=raised
        )


def compute_floor(errors: Sequence[ErrorMetrics], *, roundoff: float = ROUNDOFF) -> Floor:
    """Return the floor over the replicates' errors at one row (docs/design.md, "The verdict").

    ``rel_l2`` is the root mean square of theirs, ``max_abs`` the largest of theirs; neither is
    below one unit ``roundoff`` of the row's scale. A replicate that overflows where float64 does
    not has no rounding error to measure: it is excluded from the floor and from ``replicates``.
    Raises CaptureError when there is no replicate, or one of another shape.
    """
    if not errors:
        raise CaptureError("a floor needs at least one replicate, found none")
    for error in errors:
        if error.mismatch:
            raise CaptureError(f"a float32 run of the reference has {error.mismatch}")
    usable = [error for error in errors if error.wrong == 0]
    scale = max(error.scale for error in errors)
    mean_square = math.fsum(error.rel_l2**2 for error in usable) / max(len(usable), 1)
    return Floor(
        rel_l2=max(math.sqrt(mean_square), roundoff),
        max_abs=max([roundoff * scale, *(error.max_abs for error in usable)]),
        replicates=len(usable),
        scale=scale,
    )


def perturb(
    array: Array,
    rng: np.random.Generator,
    *,
    dtype: np.dtype[Any] = _FLOAT32,
    factor: float = 1.0,
) -> Array:
    """Return the array times ``1 + U(-1, 1) * eps``: a change of about one ulp at most.

    ``eps`` is that of ``dtype``, which is float16, float32 or float64: in float32, 2**-23 of a
    value is one ulp just above a power of two, and almost two just below the next. The result is
    rounded to ``dtype`` and has the same shape, in C order; non-finite values are unchanged. The
    change is ``factor`` times as large.
    """
    # 2**-10 / 2**15 of a float16 is below its smallest number, so the change is computed wider.
    wide = np.promote_types(dtype, _FLOAT32)
    # A 16-bit integer times this is U(-1, 1) * eps.
    per_step = wide.type(2.0**-15 * float(np.finfo(dtype).eps) * factor)
    # At a boundary at which a framework can take the array as it is, without a copy.
    perturbed = allocate_aligned(array.size, np.dtype(dtype)).reshape(array.shape)
    flat, source = perturbed.reshape(-1), np.ascontiguousarray(array).reshape(-1)
    change = allocate_aligned(_BLOCK, wide)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, flat.size, _BLOCK):
            piece = source[start : start + _BLOCK]
            # Sixteen random bits are plenty to choose among five neighbours, and cost half of what
            # a float32 draw does. Four 16-bit integers a word:
            words = rng.integers(0, 2**64, -(-piece.size // 4), dtype=np.uint64)
            delta = change[: piece.size]
            np.copyto(delta, words.view(np.int16)[: piece.size])
            # x + x*u*eps rounds to what x*(1 + u*eps) does, in one precision throughout; the
            # factor itself would have only three values there.
            delta *= per_step
            delta *= piece
            result = flat[start : start + _BLOCK]
            np.add(piece, delta, out=result)
            finite = np.isfinite(piece)
            if not finite.all():
                np.copyto(result, piece, where=~finite)  # Inf * 0 and Inf - Inf are NaN
    return perturbed


class FloorAccumulator:
    """Accumulates the replicates' errors by row, in the child that runs them."""

    def __init__(self) -> None:
        self._errors: dict[str, list[ErrorMetrics]] = {}

    def add(self, row: str, *, actual: Array, expected: Array) -> ErrorMetrics:
        """Measure one replicate's tensor against the float64 tensor, and return its error."""
        error = measure_error(actual=actual, expected=expected)
        self._errors.setdefault(row, []).append(error)
        return error

    def floors(self, terms: Mapping[str, float] | None = None) -> dict[str, Floor]:
        """Return the floor of each row. Raises CaptureError, naming the row.

        `terms` holds, by row, the number of terms of the longest sum in it or before it: see
        `Floor.for_sum_length`.
        """
        floors = {}
        for row, errors in self._errors.items():
            try:
                floors[row] = compute_floor(errors).for_sum_length((terms or {}).get(row, 1))
            except CaptureError as error:
                raise CaptureError(f"{row}: {error}") from error
        return floors


def to_json(floors: Mapping[str, Floor]) -> dict[str, Any]:
    """Return floors by row as plain data."""
    return {row: floor.to_json() for row, floor in floors.items()}


def from_json(data: Mapping[str, Any]) -> dict[str, Floor]:
    """Return the floors that ``to_json`` serialised."""
    return {row: Floor.from_json(floor) for row, floor in data.items()}
