"""How far two arrays are apart: one pass, float64 arithmetic, no full-size temporaries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.capture import CHUNK

Array = NDArray[Any]
Float64 = NDArray[np.float64]


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
    norm, distance = Norm(), Distance(_narrower(actual.dtype, expected.dtype))
    with np.errstate(all="ignore"):
        for found, wanted in _paired(actual, expected):
            norm.add(wanted)
            distance.add(actual=found, expected=wanted)
    return distance.error(norm, expected.shape)


def _narrower(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    return min(dtypes, key=lambda dtype: dtype.itemsize)


def _paired(actual: Array, expected: Array) -> Iterator[tuple[Float64, Float64]]:
    """Yield both in C order, as flat float64 pieces in reused buffers."""
    if actual.size == 0:
        return
    if actual.flags.c_contiguous and expected.flags.c_contiguous:
        found, wanted = np.empty(CHUNK), np.empty(CHUNK)
        left, right = actual.reshape(-1), expected.reshape(-1)
        for start in range(0, left.size, CHUNK):
            count = min(CHUNK, left.size - start)
            yield (
                widen(left[start : start + count], found),
                widen(right[start : start + count], wanted),
            )
    else:
        yield from np.nditer(
            [actual, expected],
            flags=["external_loop", "buffered"],
            op_dtypes=[np.float64, np.float64],
            order="C",
            buffersize=CHUNK,
        )


def widen(piece: Array, buffer: Float64) -> Float64:
    """Return a flat piece as float64: itself when it is, else copied into ``buffer``."""
    if piece.dtype == np.float64:
        return piece
    wide = buffer[: piece.size]
    np.copyto(wide, piece)
    return wide


class Norm:
    """The Euclidean norm and the largest magnitude of an array, over its finite values."""

    def __init__(self) -> None:
        self._squares = 0.0
        self.scale = 0.0
        self._scratch = np.empty(CHUNK)

    @property
    def l2(self) -> float:
        return math.sqrt(self._squares)

    def add(self, piece: Float64) -> None:
        """Take the next flat piece, of at most ``CHUNK`` elements."""
        magnitude = np.abs(piece, out=self._scratch[: piece.size])
        top = float(magnitude.max())
        if not math.isfinite(top):
            magnitude = magnitude[np.isfinite(magnitude)]
            top = float(magnitude.max(initial=0.0))
        self.scale = max(self.scale, top)
        self._squares += _squares(magnitude)


def _squares(values: Float64) -> float:
    # CHUNK is above the size from which OpenBLAS starts threads for a dot product, and einsum
    # is as fast without them.
    return float(np.einsum("i,i->", values, values))


class Distance:
    """The difference of two arrays, piece by piece; ``rounded`` is the dtype of ``exact``."""

    def __init__(self, rounded: np.dtype[Any] | None = None) -> None:
        self._rounded = rounded
        self._exact = rounded is not None
        self._seen = 0
        self._compared = 0
        self._wrong = 0
        self._squares = 0.0
        self._max_abs = 0.0
        self._worst: int | None = None
        self._values = (0.0, 0.0)
        self._scratch = np.empty(CHUNK)

    def add(self, *, actual: Float64, expected: Float64) -> None:
        """Take the next flat pieces, of one length up to ``CHUNK``."""
        if self._exact and self._rounded is not None:
            self._exact = _same_bits(actual, expected, self._rounded)
        gap = np.subtract(actual, expected, out=self._scratch[: actual.size])
        np.abs(gap, out=gap)
        top = float(gap.max())
        compared = gap.size
        if not math.isfinite(top):
            compared = self._set_aside(gap, actual, expected)
            top = float(gap.max())
        if top > self._max_abs and self._wrong == 0:
            self._point(int(gap.argmax()), actual, expected)
        self._max_abs = max(self._max_abs, top)
        self._squares += _squares(gap)
        self._compared += compared
        self._seen += gap.size

    def _set_aside(self, gap: Float64, actual: Float64, expected: Float64) -> int:
        """Count the values that are wrong, clear the non-finite ones, and return what is left."""
        finite = np.isfinite(actual) & np.isfinite(expected)
        same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        wrong = ~finite & ~same
        if self._wrong == 0 and wrong.any():
            self._point(int(wrong.argmax()), actual, expected)
        self._wrong += int(np.count_nonzero(wrong))
        gap[~finite] = 0.0
        return int(np.count_nonzero(finite))

    def _point(self, at: int, actual: Float64, expected: Float64) -> None:
        self._worst = self._seen + at
        self._values = (float(actual[at]), float(expected[at]))

    def error(self, norm: Norm, shape: tuple[int, ...]) -> Error:
        """Return the error of all pieces; ``norm`` is that of the expected array."""
        wrong = self._wrong > 0
        rel_l2 = math.sqrt(self._squares) / (norm.l2 or 1.0)
        worst = self._worst
        return Error(
            max_abs=math.inf if wrong else self._max_abs,
            rel_l2=math.inf if wrong else rel_l2,
            wrong=self._wrong,
            compared=self._compared,
            size=self._seen,
            scale=norm.scale,
            exact=self._exact and self._seen > 0,
            worst=None if worst is None else tuple(map(int, np.unravel_index(worst, shape))),
            actual=None if worst is None else self._values[0],
            expected=None if worst is None else self._values[1],
        )


def _same_bits(actual: Float64, expected: Float64, dtype: np.dtype[Any]) -> bool:
    left, right = (side.astype(dtype).astype(np.float64) for side in (actual, expected))
    return bool(np.array_equal(left.view(np.uint64), right.view(np.uint64)))
