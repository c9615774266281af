"""Error metrics of arrays: one pass, float64 arithmetic, no full-size temporaries."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.numerics.checksum import ALIGNMENT, CHUNK, allocate_aligned
from parity.numerics.rounding import unit_roundoff

Array = NDArray[Any]
Float64 = NDArray[np.float64]

# OpenBLAS starts threads for a dot product of 10,000 elements or more; they would cost more than
# they gain.
_DOT = 8192

_HUGE = 1e8
"""The least magnitude of the values of a mask that is added to scores: -1e9, the lowest float32."""

_GAP = 1e2
"""By how many times the values of a mask are larger than the norm of all others."""

_BFLOAT16 = 2.0**-8
"""The largest relative error of a rounding to bfloat16."""

_MASK_ROUNDINGS = 4.0
"""By how many roundings of the narrower type the values of a mask may differ, and be the same."""

_FEW = 4
"""Number of tensors up to which a whole chunk of each, and of each pair's differences, fits a
core's second-level cache of 1 MB; with more tensors, half a chunk is processed at once."""


@dataclass(frozen=True, slots=True)
class ErrorMetrics:
    """The error of ``actual`` relative to ``expected`` (docs/design.md, "The verdict").

    ``max_abs = max|actual - expected|`` and ``rel_l2 = ||actual - expected|| / ||expected||``, over
    the elements where both are finite; where ``expected`` is all zeros, ``rel_l2`` is the norm of
    the difference itself. Both are infinite when
    ``wrong`` is not 0 or the shapes differ, so no threshold lets such an error pass.
    """

    max_abs: float
    rel_l2: float
    wrong: int = 0
    """Number of elements where one is NaN or Inf and the other is not the same."""
    compared: int = 0
    """Number of elements where both are finite; 0 means that nothing was compared."""
    size: int = 0
    scale: float = 0.0
    """The largest finite ``|expected|``."""
    exact: bool = False
    """Equal bit for bit, once the wider of the two is rounded to the dtype of the other."""
    worst: tuple[int, ...] | None = None
    """The index of the largest difference, or of the first wrong value; None when there is none."""
    actual: float | None = None
    expected: float | None = None
    """The two values at ``worst``."""
    mismatch: str | None = None
    """Both shapes, when they differ."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data (non-finite floats stay floats)."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the metrics that ``to_json`` serialised."""
        worst = data["worst"]
        return cls(**{**data, "worst": None if worst is None else tuple(worst)})


def build_mismatch(*, actual: tuple[int, ...], expected: tuple[int, ...]) -> ErrorMetrics:
    """Return the metrics of two tensors whose shapes differ: no broadcasting, never a pass."""
    message = f"shape {list(actual)}, expected {list(expected)}"
    return ErrorMetrics(math.inf, math.inf, size=math.prod(expected), mismatch=message)


def measure_error(*, actual: Array, expected: Array) -> ErrorMetrics:
    """Measure the error of ``actual`` relative to ``expected``, of the same shape, any strides."""
    if actual.shape != expected.shape:
        return build_mismatch(actual=actual.shape, expected=expected.shape)
    pairwise = PairwiseErrors([expected.dtype, actual.dtype])
    for chunks in _iterate_chunks(expected, actual):
        pairwise.add(chunks)
    return pairwise.metrics(0, 1, expected.shape)


def measure_norms(*, actual: Array, expected: Array) -> tuple[float, float]:
    """Return ``||actual - expected||`` and ``||expected||``, of arrays of one shape.

    Unlike `measure_error`, nothing is left out: they are not finite where a value is not.
    """
    difference, norm = 0.0, 0.0
    with np.errstate(all="ignore"):
        for right, left in _iterate_chunks(expected, actual):
            for start in range(0, len(right), _DOT):
                wanted = np.asarray(right[start : start + _DOT], np.float64)
                difference += sum_squares(left[start : start + _DOT] - wanted)
                norm += sum_squares(wanted)
    return math.sqrt(difference), math.sqrt(norm)


def sum_squares(values: Float64) -> float:
    """Return the sum of the squares of a flat array."""
    if len(values) <= _DOT:
        return float(np.dot(values, values))
    return float(_sum_squares(values[None])[0])


def _iterate_chunks(*arrays: Array) -> Iterator[Sequence[Array]]:
    """Yield arrays of one shape in C order, as flat chunks of equal length, without a copy."""
    if arrays[0].size == 0:
        return
    if all(array.flags.c_contiguous for array in arrays):
        flat = [array.reshape(-1) for array in arrays]
        for start in range(0, flat[0].size, CHUNK):
            yield [array[start : start + CHUNK] for array in flat]
    else:
        # A transposed view is walked through a buffer: a contiguous copy would be a whole tensor.
        yield from np.nditer(
            arrays,
            flags=["external_loop", "buffered"],
            op_dtypes=[np.float64] * len(arrays),
            order="C",
            buffersize=CHUNK,
        )


class PairwiseErrors:
    """Accumulates the errors between each two of several tensors, chunk by chunk.

    ``rel_l2`` is relative to the first tensor. Where that is scores to which a mask was added, of
    values that are negative and larger by far than all others, the errors are those of the others:
    the rounding of the mask, which no softmax shows, would hide every error beside it.
    """

    def __init__(self, dtypes: Sequence[np.dtype[Any]], *, with_scale: bool = True) -> None:
        """Without ``with_scale``, ``scale`` stays 0, which saves two passes over each chunk."""
        count = len(dtypes)
        # In the order of the subtractions in _add: the pairs of the first tensor, the second, ...
        self._pairs = list(itertools.combinations(range(count), 2))
        # The tensors still equal to the first, bit for bit, and the dtype that both are rounded to.
        self._equal_dtypes = {j: min(dtypes[0], dtypes[j], key=_itemsize) for j in range(1, count)}
        self._block = CHUNK if count <= _FEW else CHUNK // 2
        self._wide = _allocate_rows(count, self._block)
        self._differences = _allocate_rows(len(self._pairs), self._block)
        self._magnitude = allocate_aligned(self._block, np.float64) if with_scale else None
        self._norm, self._scale = 0.0, 0.0
        # The largest relative error of one rounding of each pair.
        self._roundoffs = np.array(
            [max(unit_roundoff(dtypes[i]), unit_roundoff(dtypes[j])) for i, j in self._pairs]
        )
        self._sum_squares = np.zeros(len(self._differences))
        self._largest = np.zeros(len(self._differences))
        self._tallies = [_PairTally() for _ in self._pairs]
        self._count = 0
        self._unmasked: _Unmasked | None = None

    def add(self, chunks: Sequence[Array]) -> None:
        """Add the next flat chunk of every tensor, all of equal length."""
        # Inf - Inf and overflow are expected and counted; the setting applies to this thread only.
        with np.errstate(all="ignore"):
            for start in range(0, chunks[0].size, self._block):
                self._add([chunk[start : start + self._block] for chunk in chunks])

    def _add(self, blocks: Sequence[Array]) -> None:
        size = blocks[0].size
        wide, gaps = self._wide[:, :size], self._differences[:, :size]
        expected = blocks[0]
        if expected.dtype != np.float64 or expected.ctypes.data % ALIGNMENT:
            np.copyto(wide[0], expected)
            expected = wide[0]
        for row, block in zip(wide[1:], blocks[1:], strict=True):
            np.copyto(row, block)
        rows = [expected, *wide[1:]]
        begin = 0
        for i in range(len(rows) - 1):
            end = begin + len(rows) - 1 - i
            np.subtract(wide[i + 1 :], rows[i], out=gaps[begin:end])
            begin = end
        np.abs(gaps, out=gaps)
        largest = gaps.max(axis=1)
        # A non-finite value makes a non-finite difference and a non-finite square.
        norm = float(_sum_squares(expected[None])[0])
        if not (math.isfinite(norm) and np.isfinite(largest).all()):
            self._exclude_non_finite(rows, gaps)
            largest = gaps.max(axis=1)
            expected = np.where(np.isfinite(expected), expected, 0.0)
            norm = float(_sum_squares(expected[None])[0])
        if self._unmasked or norm >= _HUGE**2:
            if self._unmasked is None:
                self._unmasked = _Unmasked(self._norm, self._scale, self._sum_squares,
                                           self._largest, self._tallies)  # fmt: skip
            self._unmasked.add(expected, rows, gaps, self._pairs, self._count)
        larger = largest > self._largest
        if larger.any():
            for k in np.flatnonzero(larger):
                i, j = self._pairs[k]
                self._tallies[k].record_worst(int(gaps[k].argmax()), self._count, rows[j], rows[i])
        for j, dtype in list(self._equal_dtypes.items()):
            if not _equal_bits(rows[0], rows[j], dtype):
                del self._equal_dtypes[j]
        np.maximum(self._largest, largest, out=self._largest)
        self._sum_squares += _sum_squares(gaps)
        self._norm += norm
        if self._magnitude is not None:
            magnitude = np.abs(expected, out=self._magnitude[:size])
            self._scale = max(self._scale, float(magnitude.max()))
        self._count += size

    def _exclude_non_finite(self, rows: Sequence[Float64], gaps: Float64) -> None:
        """Count the non-finite values that differ, and clear the non-finite differences."""
        finite = [np.isfinite(row) for row in rows]
        for (i, j), gap, tally in zip(self._pairs, gaps, self._tallies, strict=True):
            both = finite[i] & finite[j]
            same = (rows[i] == rows[j]) | (np.isnan(rows[i]) & np.isnan(rows[j]))
            wrong = ~both & ~same
            if wrong.any():
                tally.record_worst(int(wrong.argmax()), self._count, rows[j], rows[i])
            tally.wrong += int(np.count_nonzero(wrong))
            tally.skipped += both.size - int(np.count_nonzero(both))
            gap[~both] = 0.0

    def metrics(self, expected: int, actual: int, shape: tuple[int, ...]) -> ErrorMetrics:
        """Return the error of tensor number ``actual`` relative to ``expected``, an earlier one."""
        k = self._pairs.index((expected, actual))
        tally = self._tallies[k]
        sums, largest, norm, scale = self._sum_squares, self._largest, self._norm, self._scale
        others = self._unmasked
        skipped = tally.skipped
        if others is not None and others.is_apart(k, self._roundoffs[k]) and not tally.wrong:
            sums, largest, norm, scale = (
                others.sum_squares, others.largest, others.norm, others.scale
            )  # fmt: skip
            tally = others.tallies[k]
        rel_l2 = math.sqrt(sums[k]) / (math.sqrt(norm) or 1.0)
        worst = tally.worst
        return ErrorMetrics(
            max_abs=math.inf if tally.wrong else float(largest[k]),
            rel_l2=math.inf if tally.wrong else rel_l2,
            wrong=tally.wrong,
            compared=self._count - skipped,
            size=self._count,
            scale=scale if self._magnitude is not None else 0.0,
            exact=expected == 0 and actual in self._equal_dtypes and self._count > 0,
            worst=None if worst is None else tuple(map(int, np.unravel_index(worst, shape))),
            actual=None if worst is None else tally.actual,
            expected=None if worst is None else tally.expected,
        )


class _Unmasked:
    """The errors of the values beside those that may be a mask's, and what tells whether they are.

    It starts from the sums of the chunks before the first one with a huge value.
    """

    def __init__(
        self,
        norm: float,
        scale: float,
        sum_squares: Float64,
        largest: Float64,
        tallies: Sequence[_PairTally],
    ) -> None:
        self.norm, self.scale = norm, scale
        self.sum_squares, self.largest = sum_squares.copy(), largest.copy()
        self.tallies = [replace(tally) for tally in tallies]
        self._least = math.inf
        self._is_negative = True
        self._mask_errors = np.zeros(len(largest))

    def add(
        self,
        expected: Float64,
        rows: Sequence[Float64],
        gaps: Float64,
        pairs: Sequence[tuple[int, int]],
        start: int,
    ) -> None:
        """Add a block; `start` is the number of values before it."""
        magnitude = np.abs(expected)
        huge = magnitude >= _HUGE
        others = ~huge
        if huge.any():
            self._least = min(self._least, float(magnitude[huge].min()))
            self._is_negative &= bool((expected[huge] < 0).all())
            ratios = gaps[:, huge] / magnitude[huge]
            for k, (_, j) in enumerate(pairs):
                # What is bfloat16's own number has been rounded to it.
                is_short = _is_bfloat16(rows[j][huge]) & (ratios[k] <= _BFLOAT16)
                ratios[k, is_short] = 0.0
            np.maximum(self._mask_errors, ratios.max(axis=1), out=self._mask_errors)
        if others.any():
            rest = np.where(others, gaps, 0.0)
            self.scale = max(self.scale, float(magnitude[others].max()))
            self.norm += float(_sum_squares(np.where(others, expected, 0.0)[None])[0])
            self.sum_squares += _sum_squares(rest)
            largest = rest.max(axis=1)
            for k in map(int, np.flatnonzero(largest > self.largest)):
                i, j = pairs[k]
                self.tallies[k].record_worst(int(rest[k].argmax()), start, rows[j], rows[i])
            np.maximum(self.largest, largest, out=self.largest)

    def is_apart(self, pair: int, roundoff: float) -> bool:
        """Return whether the huge values are a mask's, and a pair has the same but for rounding.

        `roundoff` is the largest relative error of one rounding.
        """
        return (
            self._is_negative
            and 0.0 < math.sqrt(self.norm) <= self._least / _GAP
            and bool(self._mask_errors[pair] <= _MASK_ROUNDINGS * roundoff)
        )


def _is_bfloat16(values: Float64) -> NDArray[np.bool_]:
    """Return which values are numbers of bfloat16, the upper half of a float32."""
    narrow = values.astype(np.float32)
    return np.asarray((narrow == values) & (narrow.view(np.uint32) & 0xFFFF == 0))


@dataclass(slots=True)
class _PairTally:
    """The counts and the worst element of a pair of tensors."""

    wrong: int = 0
    skipped: int = 0
    worst: int | None = None
    actual: float = 0.0
    expected: float = 0.0

    def record_worst(self, at: int, start: int, actual: Float64, expected: Float64) -> None:
        """Record element ``start + at`` as the worst, unless a wrong value was recorded before."""
        if not self.wrong:
            self.worst = start + at
            self.actual, self.expected = float(actual[at]), float(expected[at])


def _allocate_rows(count: int, size: int) -> Float64:
    return allocate_aligned(count * size, np.float64).reshape(count, size)


def _sum_squares(rows: Float64) -> Float64:
    """Return the sum of squares of each row."""
    total = np.zeros(len(rows))
    for start in range(0, rows.shape[1], _DOT):
        piece = rows[:, start : start + _DOT]
        total += np.vecdot(piece, piece)
    return total


def _itemsize(dtype: np.dtype[Any]) -> int:
    return dtype.itemsize


def _equal_bits(left: Float64, right: Float64, dtype: np.dtype[Any]) -> bool:
    left, right = (side.astype(dtype).astype(np.float64) for side in (left, right))
    return bool(np.array_equal(left.view(np.uint64), right.view(np.uint64)))
