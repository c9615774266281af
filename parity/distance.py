"""How far two arrays are apart: one pass, float64 arithmetic, no full-size temporaries."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.checksum import CHUNK, aligned

Array = NDArray[Any]
Float64 = NDArray[np.float64]

# Elements worked on at once: the rows of five tensors and of their ten pairs, 1 MB in all, about
# fill a core's second-level cache; smaller blocks pay more for calls than they gain. It is also
# below 10,000, from which OpenBLAS starts threads for each dot product.
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Error:
    """The distance of ``actual`` from ``expected`` (DESIGN.md, "The verdict").

    ``max_abs = max|actual - expected|`` and ``rel_l2 = ||actual - expected|| / ||expected||``, over
    the places where both are finite; where ``expected`` is all zeros there is nothing to be
    relative to, and ``rel_l2`` is the norm of the difference itself. Both are infinite when
    ``wrong`` is not 0 or the shapes differ, so no threshold lets such an error pass.
    """

    max_abs: float
    rel_l2: float
    wrong: int = 0
    """Places where one is NaN or Inf and the other is not the same."""
    compared: int = 0
    """Places where both are finite; 0 means that nothing was compared."""
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
        """Rebuild what ``to_json`` gave."""
        worst = data["worst"]
        return cls(**{**data, "worst": None if worst is None else tuple(worst)})


def mismatched(*, actual: tuple[int, ...], expected: tuple[int, ...]) -> Error:
    """Return the error of two tensors whose shapes differ: never broadcast, never passed."""
    message = f"shape {list(actual)}, expected {list(expected)}"
    return Error(math.inf, math.inf, size=math.prod(expected), mismatch=message)


def measure(*, actual: Array, expected: Array) -> Error:
    """Measure how far ``actual`` is from ``expected``, two arrays of one shape and any strides."""
    if actual.shape != expected.shape:
        return mismatched(actual=actual.shape, expected=expected.shape)
    distances = Distances([expected.dtype, actual.dtype])
    for pieces in _in_step(expected, actual):
        distances.add(pieces)
    return distances.error(0, 1, expected.shape)


def _in_step(*arrays: Array) -> Iterator[Sequence[Array]]:
    """Yield arrays of one shape in C order, as flat pieces of one length, without copying them."""
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


class Distances:
    """The distances between any two of several tensors, which are given in step, piece by piece.

    The first tensor is the one that ``rel_l2`` is relative to.
    """

    def __init__(self, dtypes: Sequence[np.dtype[Any]]) -> None:
        count = len(dtypes)
        # In the order in which _add subtracts: all that follow the first, the second, ...
        self._pairs = list(itertools.combinations(range(count), 2))
        # Those still equal to the first, bit for bit, and the dtype that both are rounded to.
        self._exact = {j: min(dtypes[0], dtypes[j], key=_width) for j in range(1, count)}
        self._wide = aligned(count * _BLOCK, np.float64).reshape(count, _BLOCK)
        # Row 0 holds the first tensor's magnitude, the others the gap of each pair.
        height = 1 + len(self._pairs)
        self._gaps = aligned(height * _BLOCK, np.float64).reshape(height, _BLOCK)
        self._squares = np.zeros(len(self._gaps))
        self._tops = np.zeros(len(self._gaps))
        self._tallies = [_Tally() for _ in self._pairs]
        self._seen = 0

    def add(self, pieces: Sequence[Array]) -> None:
        """Take the next flat piece of every tensor, all of one length."""
        # Inf - Inf and overflow are looked for, not accidents; the setting is this thread's own.
        with np.errstate(all="ignore"):
            for start in range(0, pieces[0].size, _BLOCK):
                self._add([piece[start : start + _BLOCK] for piece in pieces])

    def _add(self, pieces: Sequence[Array]) -> None:
        size = pieces[0].size
        rows, gaps = self._wide[:, :size], self._gaps[:, :size]
        for row, piece in zip(rows, pieces, strict=True):
            np.copyto(row, piece)
        np.abs(rows[0], out=gaps[0])
        begin = 1
        for i in range(len(rows) - 1):
            end = begin + len(rows) - 1 - i
            np.subtract(rows[i + 1 :], rows[i], out=gaps[begin:end])
            begin = end
        np.abs(gaps[1:], out=gaps[1:])
        tops = gaps.max(axis=1)
        if not np.isfinite(tops).all():
            self._set_aside(rows, gaps)
            tops = gaps.max(axis=1)
        for k in np.flatnonzero(tops[1:] > self._tops[1:]):
            i, j = self._pairs[k]
            self._tallies[k].point(int(gaps[k + 1].argmax()), self._seen, rows[j], rows[i])
        for j, dtype in list(self._exact.items()):
            if not _same_bits(rows[0], rows[j], dtype):
                del self._exact[j]
        np.maximum(self._tops, tops, out=self._tops)
        self._squares += np.vecdot(gaps, gaps)
        self._seen += size

    def _set_aside(self, rows: Float64, gaps: Float64) -> None:
        """Count the values that are wrong, and clear what is not finite."""
        finite = [np.isfinite(row) for row in rows]
        gaps[0][~finite[0]] = 0.0
        for (i, j), gap, tally in zip(self._pairs, gaps[1:], self._tallies, strict=True):
            both = finite[i] & finite[j]
            same = (rows[i] == rows[j]) | (np.isnan(rows[i]) & np.isnan(rows[j]))
            wrong = ~both & ~same
            if wrong.any():
                tally.point(int(wrong.argmax()), self._seen, rows[j], rows[i])
            tally.wrong += int(np.count_nonzero(wrong))
            tally.skipped += both.size - int(np.count_nonzero(both))
            gap[~both] = 0.0

    def error(self, expected: int, actual: int, shape: tuple[int, ...]) -> Error:
        """Return the error of one tensor (by its place) against an earlier one."""
        k = self._pairs.index((expected, actual))
        tally = self._tallies[k]
        norm = math.sqrt(self._squares[0])
        rel_l2 = math.sqrt(self._squares[k + 1]) / (norm or 1.0)
        worst = tally.worst
        return Error(
            max_abs=math.inf if tally.wrong else float(self._tops[k + 1]),
            rel_l2=math.inf if tally.wrong else rel_l2,
            wrong=tally.wrong,
            compared=self._seen - tally.skipped,
            size=self._seen,
            scale=float(self._tops[0]),
            exact=expected == 0 and actual in self._exact and self._seen > 0,
            worst=None if worst is None else tuple(map(int, np.unravel_index(worst, shape))),
            actual=None if worst is None else tally.actual,
            expected=None if worst is None else tally.expected,
        )


@dataclass(slots=True)
class _Tally:
    """What is kept of a pair beside its sums."""

    wrong: int = 0
    skipped: int = 0
    worst: int | None = None
    actual: float = 0.0
    expected: float = 0.0

    def point(self, at: int, seen: int, actual: Float64, expected: Float64) -> None:
        """Remember where, unless a wrong value was met before: the first of those is kept."""
        if not self.wrong:
            self.worst = seen + at
            self.actual, self.expected = float(actual[at]), float(expected[at])


def _width(dtype: np.dtype[Any]) -> int:
    return dtype.itemsize


def _same_bits(left: Float64, right: Float64, dtype: np.dtype[Any]) -> bool:
    left, right = (side.astype(dtype).astype(np.float64) for side in (left, right))
    return bool(np.array_equal(left.view(np.uint64), right.view(np.uint64)))
