"""How one table of constants became another: an offset, frequencies, an order, a factor.

Every relation is checked on the whole table, an offset on all places that both tables have: what it
says of the reference's table must give the subject's. A table of sinusoidal positions has sines or
cosines of t·s·base^(-i/n) at the position t, with frequencies i from 0 on (Vaswani et al. 2017,
"Attention Is All You Need", section 3.5; Su et al. 2021, "RoFormer", equation 15). n is their
number, or one less: then the last is 1/base.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof.layer import Array
from parity.network.arrays import join_complex


class Change(enum.Enum):
    """What may differ between two tables."""

    OFFSET = "offset"
    FREQUENCIES = "frequencies"
    ORDER = "order"
    FACTOR = "factor"
    FACTORS = "factors"
    OTHER = "other"


LARGEST_OFFSET = 16
"""Places by which a table may be read too far."""

MOST_VALUES = 1 << 18
"""The size of a table above which only a factor is looked for."""

_CLOSE = 1e-5
"""The largest difference, relative to the largest value, of numbers that are called equal."""

_ROUNDING = 1e-6
"""The largest difference, relative to a number itself, that is taken for its rounding."""

_CLOSE_SINES = 1e-3
"""The same of sines, whose angles have an error that grows with the position."""

_FEWEST_POSITIONS = 4

_FEWEST_COMMON = 3
"""The places that two tables must have in common for one to be the other's read elsewhere."""

_MOST_FACTORS, _VALUES_PER_FACTOR = 64, 8

_FEWEST_VALUES = 8
"""The different values that two tables must have in common to be made of the same ones."""

_MOST_LISTED = 8
"""The length of an axis up to which the order of its entries is listed."""

_ITS_ORDER = "the reference's"
"""The wanted order, where it is not listed."""

_KNOWN_ANGLE = 0.02
"""The smallest angle per position that a table in float32 gives to four digits or so."""


@dataclass(frozen=True)
class Relation:
    """What differs between two tables, and what the subject's and the reference's have there."""

    kind: Change
    found: str
    wanted: str = ""


def compare(
    *, before: Array, after: Array, is_complex: bool = False, has_own_axes: bool = True
) -> Relation:
    """Return how the reference's table, `before`, became the subject's, of the same shape.

    The last axis of one that `is_complex` has the real and the imaginary part. An axis is told by
    its length where the tables have not `has_own_axes`, but those of another tensor.
    """
    if is_complex:
        factor = _find_complex_factor(join_complex(before), join_complex(after))
        if factor is not None:
            return factor
    first, second, axes = _drop_repeats(before, after)
    names = [f"axis {axis}" for axis in axes]
    if not has_own_axes:
        names = [f"the axis of length {length}" for length in first.shape]
    # Two roundings of one table have no relation.
    is_finite = np.isfinite(first).all() and np.isfinite(second).all()
    if is_finite and not _is_close(first, second, 2 * _CLOSE):
        finders: list[Callable[[Array, Array], Relation | None]] = [_find_factor, _find_factors]
        if first.size <= MOST_VALUES:
            find_order = partial(_find_order, names=names)
            finders += [_find_offset, _find_frequencies, find_order, _find_other_places]
        for find in finders:
            relation = find(first, second)
            if relation is not None:
                return relation
    with np.errstate(invalid="ignore"):
        apart = np.abs(first - second)
    differs = (first != second) & ~(np.isnan(first) & np.isnan(second))
    worst = float(np.where(np.isnan(apart), np.inf, apart)[differs].max(initial=0.0))
    # Of numbers that a quotient gave, one side may have rounded each.
    with np.errstate(invalid="ignore"):
        rounding = _ROUNDING * np.maximum(np.abs(first), np.abs(second))
        is_clear = differs & ~(np.isfinite(apart) & (apart <= rounding))
    share = float(np.mean(is_clear if is_clear.any() else differs))
    return Relation(Change.OTHER, f"{share:.0%} of {_format_shape(first)}, up to {worst:.3g} apart")


def describe(
    relation: Relation, name: str, *, inverse: str = "", constant: str = "the reference's constant"
) -> tuple[str, str]:
    """Return a relation as a sentence on a table of this name, and the remedy.

    The table that was before is the `inverse` of the reference's, if that is stated. `constant` is
    to be used where there is no closer relation. Neither begins with a capital.
    """
    before = f"{inverse} of the reference's" if inverse else "the reference's"
    found, wanted = relation.found, relation.wanted
    if relation.kind is Change.OFFSET:
        return (
            f"{name} has at each place what the reference has {found} it",
            "begin at the reference's place: positions are often counted from 0 or from 1",
        )
    if relation.kind is Change.FREQUENCIES:
        return (
            f"the frequencies of its positions are {found}, not {wanted}",
            f"compute them as {wanted}",
        )
    if relation.kind is Change.ORDER:
        return (
            f"{name} has another order: {found}, not {wanted}",
            "order it as the reference does" + ("" if wanted == _ITS_ORDER else f": {wanted}"),
        )
    if relation.kind is Change.FACTOR:
        return f"{name} is {found} times {before}", f"divide it by {found}"
    if relation.kind is Change.FACTORS:
        return (
            f"the entries of one axis of {name} are {found} times {before}",
            f"divide them by {found}",
        )
    than = f" than {before}" if inverse else ""
    return f"{name} has other values{than}: {found}", f"use {constant}"


def _drop_repeats(first: Array, second: Array) -> tuple[Array, Array, list[int]]:
    """Return both tables without the axes along which neither varies, and the axes that are left.

    Those are numbered as they were.
    """
    left = list(range(first.ndim))
    for axis in reversed(range(first.ndim)):
        ends = [np.take(each, [0], axis) for each in (first, second)]
        if all(bool((e == v).all()) for e, v in zip(ends, (first, second), strict=True)):
            first, second = (np.squeeze(each, axis) for each in ends)
            left.remove(axis)
    return first, second, left


def _find_factor(first: Array, second: Array) -> Relation | None:
    scale = float((first * first).sum())
    if not scale:
        return None
    factor = float((first * second).sum()) / scale
    if abs(factor) < _CLOSE or not _is_close(first * factor, second):
        return None
    return Relation(Change.FACTOR, f"{factor:.6g}")


def _find_complex_factor(first: NDArray[Any], second: NDArray[Any]) -> Relation | None:
    scale = float(np.vdot(first, first).real)
    factor = complex(np.vdot(first, second)) / scale if scale else 0j
    if abs(factor.imag) < _CLOSE * abs(factor) or not _is_close(first * factor, second):
        return None
    return Relation(Change.FACTOR, f"{factor:.6g}")


def _find_factors(first: Array, second: Array) -> Relation | None:
    """Return the factor of each entry of one axis: the slopes of several heads, for example."""
    for axis in range(first.ndim):
        others = tuple(each for each in range(first.ndim) if each != axis)
        values = first.size // max(first.shape[axis], 1)
        if not 1 < first.shape[axis] <= _MOST_FACTORS or values < _VALUES_PER_FACTOR:
            continue
        squares = (first * first).sum(axis=others, keepdims=True)
        if not squares.all():
            continue
        factors = (first * second).sum(axis=others, keepdims=True) / squares
        if _is_close(first * factors, second):
            text = ", ".join(f"{each:.6g}" for each in factors.reshape(-1)[:4])
            more = ", …" if factors.size > 4 else ""
            return Relation(Change.FACTORS, f"{text}{more}")
    return None


def _find_offset(first: Array, second: Array) -> Relation | None:
    """Return by how many places the second table is read too far, along any axis."""
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
    """Yield offsets that leave most of the places, the smallest first."""
    most = min(LARGEST_OFFSET, max(length // 4, 1), length - _FEWEST_COMMON)
    for offset in range(1, most + 1):
        yield from (offset, -offset)


# Sinusoidal positions -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Waves:
    """The frequencies scale·base^(-i/steps) of a table's columns; `order` says which has which."""

    scale: float
    base: float
    steps: int
    order: str
    indices: tuple[int, ...]

    @property
    def powers(self) -> str:
        """The frequencies as a formula in the number i of one."""
        scale = "" if math.isclose(self.scale, 1.0) else f"{self.scale:.4g}·"
        return f"{scale}{_format(self.base)}^(-i/{self.steps})"


def _find_frequencies(first: Array, second: Array) -> Relation | None:
    """Return what differs in the frequencies of sines and cosines along the first axis."""
    if first.ndim != 2 or min(first.shape) < 2:
        return None
    before, after = _read_waves(first), _read_waves(second)
    if before is None or after is None or before == after:
        return None
    if before.powers == after.powers:
        return Relation(Change.ORDER, after.order, before.order)
    found, wanted = after.powers, before.powers
    if before.order != after.order:
        found, wanted = f"{found}, {after.order}", f"{wanted}, {before.order}"
    return Relation(Change.FREQUENCIES, found, wanted)


def _read_waves(table: Array) -> _Waves | None:
    """Return the frequencies of a table, if they give all of it."""
    angles = _measure_angles(table)
    if angles is None:
        return None
    falling = np.sort(angles)[::-1]
    scale = float(f"{falling[0]:.3g}")
    often = int(np.isclose(falling, falling[0], rtol=1e-3).sum())
    if len(falling) % often or len(falling) == often:
        return None
    rows = falling.reshape(-1, often)[:, 0]
    count = len(rows)
    known = rows[rows > _KNOWN_ANGLE]
    if len(known) < 2:
        return None
    slope = math.log(known[-1] / known[0]) / (len(known) - 1)
    orders = {
        "equal ones in both halves": np.arange(len(angles)) % count,
        "equal ones side by side": np.arange(len(angles)) // often,
    }
    found = []
    for (order, indices), steps in itertools.product(orders.items(), (count, count - 1)):
        base = float(f"{math.exp(-slope * steps):.3g}")
        waves = _Waves(scale, base, steps, order if often > 1 else "", tuple(map(int, indices)))
        if base > 1.0 and _gives(waves, table):
            found.append(waves)
    # Where few frequencies leave it open, the base is the rounder number.
    return min(found, key=lambda waves: len(f"{waves.base:g}".rstrip("0")), default=None)


def _measure_angles(table: Array) -> Array | None:
    """Return the angle per position of each column, or None if one is no sine of the position.

    Of any sine, s(t + 1) + s(t - 1) = 2 cos(w) s(t). Small angles are known badly.
    """
    if len(table) < _FEWEST_POSITIONS:
        return None
    inner, around = table[1:-1], table[2:] + table[:-2]
    power = (inner * inner).sum(0)
    if not power.all():
        return None
    cosines = (inner * around).sum(0) / power / 2.0
    if not _is_close(2.0 * cosines * inner, around, _CLOSE_SINES):
        return None
    # The differences are known better than the cosines where the angle is small.
    second = (inner * (2.0 * inner - around)).sum(0) / power
    return np.asarray(2.0 * np.arcsin(np.sqrt(np.clip(second / 4.0, 0.0, 1.0))))


def _gives(waves: _Waves, table: Array) -> bool:
    """Return whether sines and cosines of these frequencies, from position 0 on, are a table."""
    powers = waves.scale * waves.base ** (-np.array(waves.indices) / waves.steps)
    angles = np.arange(len(table))[:, None] * powers
    is_sine = np.abs(table[0]) < _CLOSE_SINES
    signs = np.sign(np.where(is_sine, table[1] * np.sin(powers), table[0]))
    made = signs * np.where(is_sine, np.sin(angles), np.cos(angles))
    return _is_close(made, table, _CLOSE_SINES)


# Any tables ---------------------------------------------------------------------------------------


def _find_order(first: Array, second: Array, *, names: Sequence[str]) -> Relation | None:
    """Return whether the entries of one axis, the shortest there is, are in another order."""
    for axis in sorted(range(first.ndim), key=lambda each: first.shape[each]):
        rows = [np.moveaxis(each, axis, 0).reshape(each.shape[axis], -1)
                for each in (first, second)]  # fmt: skip
        orders = [np.lexsort(np.round(each, 5).T) for each in rows]
        moved = [each[order] for each, order in zip(rows, orders, strict=True)]
        if not _is_close(moved[0], moved[1]):
            continue
        length = first.shape[axis]
        if length > _MOST_LISTED:
            return Relation(Change.ORDER, f"other places of {names[axis]}", _ITS_ORDER)
        taken = np.empty(length, int)
        taken[orders[1]] = orders[0]
        found, wanted = (", ".join(map(str, each)) for each in (taken, range(length)))
        return Relation(Change.ORDER, f"{found} of {names[axis]}", wanted)
    return None


def _find_other_places(first: Array, second: Array) -> Relation | None:
    """Return whether every entry is one of the first table's: rows that are gathered otherwise."""
    known, found = np.unique(first), np.unique(second)
    if (
        len(known) < _FEWEST_VALUES
        or len(found) < _FEWEST_VALUES
        or not np.isin(found, known).all()
    ):
        return None
    return Relation(Change.ORDER, "the same values at other places", _ITS_ORDER)


def _is_close(first: NDArray[Any], second: NDArray[Any], tolerance: float = _CLOSE) -> bool:
    scale = max(float(np.abs(first).max(initial=0.0)), float(np.abs(second).max(initial=0.0)))
    return first.shape == second.shape and bool(
        np.abs(first - second).max(initial=0.0) <= tolerance * scale
    )


def _format(number: float) -> str:
    return f"{number:.0f}" if number >= 100.0 else f"{number:.4g}"


def _format_shape(array: Array) -> str:
    return "×".join(map(str, array.shape)) or "one value"
