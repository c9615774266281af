"""How one table of constants became another: positions, frequencies, order, a factor.

A table of positions has one row for each position: rows of a learned table, or sines and cosines
whose frequencies fall from 1 as powers of a base (Vaswani et al. 2017, "Attention Is All You Need",
section 3.5; Su et al. 2021, "RoFormer", equation 15).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.explain.proof.layer import Array


class Change(enum.Enum):
    """What may differ between two tables."""

    OFFSET = "offset"
    BASE = "base"
    SCALE = "scale"
    ORDER = "order"
    FACTOR = "factor"
    OTHER = "other"


LARGEST_OFFSET = 16
"""Positions by which a table may be read too far."""

_CLOSE = 1e-5
"""The largest difference, relative to the largest value, of numbers that are called equal."""

_FEWEST_POSITIONS = 4

_KNOWN_TO = 1e-3
"""How well a small angle is known, in radians: its cosine is near 1, whose last bits it is in."""

_CLOSEST_BASES = 0.01
"""The relative difference from which on two bases are told apart."""

_KNOWN_ANGLE = 0.02
"""The smallest angle per position that a table in float32 gives to four digits or so."""


@dataclass(frozen=True)
class Relation:
    """What differs between two tables, and what the subject's and the reference's have there."""

    kind: Change
    found: str
    wanted: str = ""


def compare(*, before: Array, after: Array) -> Relation:
    """Return how the reference's table, `before`, became the subject's, of the same shape."""
    first, second = _drop_repeats(before, after)
    for find in (_find_factor, _find_offset, _find_frequencies, _find_order):
        relation = find(first, second)
        if relation is not None:
            return relation
    worst = float(np.abs(first - second).max())
    share = float(np.mean(first != second))
    return Relation(Change.OTHER, f"{share:.0%} of {_format_shape(first)}, up to {worst:.3g} apart")


def _drop_repeats(first: Array, second: Array) -> tuple[Array, Array]:
    """Return both tables with the axes along which neither varies at the length 1 left out."""
    for axis in reversed(range(first.ndim)):
        ends = [np.take(each, [0], axis) for each in (first, second)]
        if all(bool((e == v).all()) for e, v in zip(ends, (first, second), strict=True)):
            first, second = (np.squeeze(each, axis) for each in ends)
    return first, second


def _find_factor(first: Array, second: Array) -> Relation | None:
    scale = float((first * first).sum())
    if not scale:
        return None
    factor = float((first * second).sum()) / scale
    if abs(factor) < _CLOSE or not _is_close(first * factor, second):
        return None
    return Relation(Change.FACTOR, f"{factor:.6g}")


def _find_offset(first: Array, second: Array) -> Relation | None:
    """Return by how many positions the second table is read too far, along any axis."""
    for axis in range(first.ndim):
        length = first.shape[axis]
        for offset in _offsets(length):
            places = range(max(-offset, 0), length + min(-offset, 0))
            moved, own = np.take(second, places, axis), np.take(first, places, axis)
            start = np.take(first, [place + offset for place in places], axis)
            # Where a table repeats itself, its own values would fit as well.
            if _is_close(start, moved) and not _is_close(own, moved):
                side = "after" if offset > 0 else "before"
                return Relation(Change.OFFSET, f"{abs(offset)} {side}")
    return None


def _offsets(length: int) -> Iterator[int]:
    """Yield offsets that leave at least half of the positions, the smallest first."""
    for offset in range(1, min(LARGEST_OFFSET, length // 2) + 1):
        yield from (offset, -offset)


def _find_frequencies(first: Array, second: Array) -> Relation | None:
    """Return what differs in the frequencies of sines and cosines along the first axis."""
    if first.ndim != 2:
        return None
    before, after = _frequencies(first), _frequencies(second)
    if before is None or after is None or _is_close(before, after, _KNOWN_TO):
        return None
    if _is_close(np.sort(before), np.sort(after), _KNOWN_TO):
        return Relation(Change.ORDER, _describe_order(after), _describe_order(before))
    known = (before > _KNOWN_ANGLE) & (after > _KNOWN_ANGLE)
    ratio = after[known] / before[known]
    if known.any() and np.ptp(before[known]) > _KNOWN_ANGLE and np.ptp(ratio) <= 1e-3 * ratio[0]:
        return Relation(Change.SCALE, f"{ratio[0]:.4g}")
    wanted, found = _find_base(before), _find_base(after)
    if wanted is None or found is None or math.isclose(wanted, found, rel_tol=_CLOSEST_BASES):
        return None
    return Relation(Change.BASE, _format(found), _format(wanted))


def _frequencies(table: Array) -> Array | None:
    """Return the angle per position of each column, or None if one is no sine of the position.

    Of any sine, s(t + 1) + s(t - 1) = 2 cos(w) s(t).
    """
    if len(table) < _FEWEST_POSITIONS:
        return None
    inner, around = table[1:-1], table[2:] + table[:-2]
    power = (inner * inner).sum(0)
    if not power.all():
        return None
    cosines = (inner * around).sum(0) / power / 2.0
    if not _is_close(2.0 * cosines * inner, around):
        return None
    # The differences are known better than the cosines where the angle is small.
    second = (inner * (2.0 * inner - around)).sum(0) / power
    return np.asarray(2.0 * np.arcsin(np.sqrt(np.clip(second / 4.0, 0.0, 1.0))))


def _find_base(frequencies: Array) -> float | None:
    """Return the base of frequencies base^(-2i/d) for i = 0 to d/2 - 1, each there equally often.

    Small angles are known badly, so that only those above `_KNOWN_ANGLE` are fitted.
    """
    falling = np.sort(frequencies)[::-1]
    if not math.isclose(falling[0], 1.0, rel_tol=1e-3):
        return None
    often = int(np.isclose(falling, falling[0], rtol=1e-3).sum())
    rows = falling.reshape(-1, often) if len(falling) % often == 0 else np.zeros((0, often))
    known = rows[(rows > _KNOWN_ANGLE).all(1)]
    if len(known) < 2 or (np.ptp(known, axis=1) > 1e-3 * known[:, 0]).any():
        return None
    slope = np.log(known[1:, 0]) / np.arange(1, len(known))
    if np.ptp(slope) > 1e-3 * abs(float(slope.mean())):
        return None
    return float(f"{math.exp(-float(slope[-1]) * len(rows)):.3g}")


def _describe_order(frequencies: Array) -> str:
    pairs = frequencies[: len(frequencies) // 2 * 2].reshape(-1, 2)
    if len(pairs) > 1 and _is_close(pairs[:, 0], pairs[:, 1]):
        return "with equal frequencies side by side"
    halves = np.array_split(frequencies, 2)
    if halves[0].shape == halves[1].shape and _is_close(halves[0], halves[1]):
        return "with equal frequencies in both halves"
    falls = bool((np.diff(frequencies) <= 0).all())
    return "with falling frequencies" if falls else "with its own order of frequencies"


def _find_order(first: Array, second: Array) -> Relation | None:
    """Return whether the entries of one axis are in another order."""
    for axis in range(first.ndim):
        rows = [np.moveaxis(each, axis, 0).reshape(each.shape[axis], -1)
                for each in (first, second)]  # fmt: skip
        moved = [each[np.lexsort(np.round(each, 5).T)] for each in rows]
        if _is_close(moved[0], moved[1]):
            return Relation(Change.ORDER, f"in another order along axis {axis}", "in its own")
    return None


def _is_close(first: Array, second: Array, tolerance: float = _CLOSE) -> bool:
    scale = max(float(np.abs(first).max(initial=0.0)), float(np.abs(second).max(initial=0.0)))
    return first.shape == second.shape and bool(
        np.abs(first - second).max(initial=0.0) <= tolerance * scale
    )


def _format(number: float) -> str:
    return f"{number:.0f}" if number >= 100.0 else f"{number:.4g}"


def _format_shape(array: Array) -> str:
    return "×".join(map(str, array.shape)) or "one value"
