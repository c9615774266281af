"""How one tensor is another with its features turned in pairs, by angles that grow with positions.

Rotary positions turn the features a and b of position t by an angle θ: a·cos θ - b·sin θ and
a·sin θ + b·cos θ, with θ = t·base^(-i/n) for the pair i of n (Su et al. 2021, "RoFormer", equation
15). The pairs are neighbours, or the halves of the features that are turned, which may be a part of
all. The angles are measured, so that it does not matter how the operation is written.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof import tables
from parity.explain.proof.layer import Array

Factors = NDArray[Any]
Places = NDArray[np.int64]

HALVES, NEIGHBOURS = "halves", "neighbours"

_CLOSE = 1e-4
"""The largest error, relative to the largest value, of features that are called turned."""

_MOST_OFFSET = 16

_STEADY = 1e-2
"""The largest difference of the lengths of all factors, and of the steps of an angle."""

_SAME_BASE = 0.02
"""The largest relative difference of the logarithms of two bases that are called one."""

_FEWEST_POSITIONS = 3

_MOST_VALUES = 1 << 20
"""The size of a tensor above which no rotation is looked for."""

_FEWEST_ROWS = 2
"""The rows at each position; one pair alone can be turned into any other."""


@dataclass(frozen=True)
class Rotation:
    """How features are turned along one axis, by positions along another.

    `factors` (positions, pairs) are the complex numbers that the pairs, read as complex ones, are
    multiplied by.
    """

    feature_axis: int
    position_axis: int
    width: int
    first: int
    last: int
    """The first and the last of `width` features that are turned."""
    pairing: str
    factors: Factors

    @property
    def count(self) -> int:
        """The number of features that are turned."""
        return self.last - self.first + 1

    def apply(self, data: Array) -> Array:
        """Return a tensor of the same axes and of the same positions with its features turned."""
        turned = _as_rows(data, self.feature_axis, self.position_axis).copy()
        pairs = _pairs(self.first, self.count, self.pairing)
        values = (turned[..., pairs[0]] + 1j * turned[..., pairs[1]]) * self.factors
        turned[..., pairs[0]], turned[..., pairs[1]] = values.real, values.imag
        moved = np.moveaxis(data, (self.position_axis, self.feature_axis), (-2, -1))
        return np.moveaxis(
            turned.reshape(moved.shape), (-2, -1), (self.position_axis, self.feature_axis)
        )

    def is_close(self, other: Rotation) -> bool:
        """Return whether another rotation gives the same, up to the rounding of its angles."""
        return (
            (self.first, self.last, self.pairing) == (other.first, other.last, other.pairing)
            and self.factors.shape == other.factors.shape
            and bool(np.abs(self.factors - other.factors).max() <= _CLOSE)
        )


def find_rotation(data: Array, turned: Array) -> Rotation | None:
    """Return how `turned` is `data` with its features turned by positions; None if it is not.

    Both have any axes, at least three, which are tried: the features are the last axis first.
    """
    if data.shape != turned.shape or data.ndim < 3 or not 0 < data.size <= _MOST_VALUES:
        return None
    with np.errstate(all="ignore"):
        # Turning keeps lengths, apart from a factor that is close to 1.
        sums = [float(np.sum(each * each)) for each in (data, turned)]
        if not (all(map(np.isfinite, sums)) and 0.5 * sums[0] <= sums[1] <= 2.0 * sums[0]):
            return None
        for feature_axis, position_axis in itertools.permutations(reversed(range(data.ndim)), 2):
            found = _measure(data, turned, feature_axis, position_axis)
            if found is not None:
                return found
    return None


def describe_difference(wanted: Rotation, found: Rotation) -> tuple[str, str] | None:
    """Return all that a rotation does otherwise than the wanted one, and the remedy.

    None if it does the same, or if what can be said of it is not all.
    """
    if wanted.is_close(found):
        return None
    if (wanted.first, wanted.last) != (found.first, found.last):
        # Other frequencies of one base follow from the width, and are no second difference.
        if wanted.pairing != found.pairing or not _have_one_base(wanted, found):
            return None
        return (
            f"It turns the features {_format_range(found)} by their positions, not"
            f" {_format_range(wanted)}",
            f"turn {_format_range(wanted)}",
        )
    own, other = wanted.factors, found.factors
    if wanted.pairing != found.pairing:
        if not _are_close(own, other):
            return None
        return (
            f"It turns pairs of {found.pairing}, not of {wanted.pairing}",
            f"pair {_PAIRING_TEXTS[wanted.pairing]}",
        )
    if _are_close(own, other.conj()):
        return "It turns by the negative angles", "turn the other way: b·cos θ + a·sin θ"
    if _are_close(1j * own.conj(), other):
        return "It has sines where the reference has cosines", "exchange cos and sin"
    for offset in range(1, min(_MOST_OFFSET, len(own) - _FEWEST_POSITIONS) + 1):
        for side, first, second in (("after", own[offset:], other[:-offset]),
                                    ("before", own[:-offset], other[offset:])):  # fmt: skip
            if _are_close(first, second):
                return (
                    "It turns each position as the reference turns the one that is"
                    f" {offset} {side} it",
                    "begin at the reference's position",
                )
    length = float(np.abs(other).mean() / np.abs(own).mean())
    if _are_close(own * length, other):
        return f"It multiplies by {length:.6g} as well", f"divide it by {length:.6g}"
    relation = tables.compare(before=_as_table(wanted), after=_as_table(found))
    if relation.kind is tables.Change.FREQUENCIES and _have_usual_angles(wanted, found):
        return (
            f"The frequencies of its positions are {relation.found}, not {relation.wanted}",
            f"compute them as {relation.wanted}",
        )
    return None


def _are_close(first: Factors, second: Factors) -> bool:
    return first.shape == second.shape and bool(np.abs(first - second).max() <= _CLOSE)


def _have_usual_angles(*rotations: Rotation) -> bool:
    """Return whether all begin at the angle 0, turn by positive angles and keep lengths."""
    return all(
        bool(np.abs(each.factors[0] - 1.0).max() <= _CLOSE)
        and bool((np.angle(each.factors[1]) > 0.0).all())
        for each in rotations
    )


def _have_one_base(wanted: Rotation, found: Rotation) -> bool:
    """Return whether the frequencies of both are powers base^(-i/n) of one base, n pairs each."""
    if not _have_usual_angles(wanted, found):
        return False
    logarithms = []
    for each in (wanted, found):
        steps = np.angle((each.factors[1:] * each.factors[:-1].conj()).sum(0))
        if len(steps) < 2 or abs(steps[0] - 1.0) > _STEADY or steps[1] <= 0.0:
            return False
        logarithms.append(len(steps) * float(np.log(steps[0] / steps[1])))
    return abs(logarithms[0] - logarithms[1]) <= _SAME_BASE * max(logarithms)


_PAIRING_TEXTS = {
    HALVES: "the feature i with i + n / 2",
    NEIGHBOURS: "the feature 2·i with 2·i + 1",
}


def _measure(data: Array, turned: Array, feature_axis: int, position_axis: int) -> Rotation | None:
    before, after = (_as_rows(each, feature_axis, position_axis) for each in (data, turned))
    rows, positions, width = before.shape
    if positions < _FEWEST_POSITIONS or rows < _FEWEST_ROWS or width < 2:
        return None
    changed = (before.astype(np.float32) != after.astype(np.float32)).any(axis=(0, 1))
    places = np.flatnonzero(changed)
    if not places.size:
        return None
    first, last = int(places[0]), int(places[-1])
    count = last - first + 1
    if count % 2:
        return None
    limit = _CLOSE * float(np.abs(after).max())
    for pairing in (HALVES, NEIGHBOURS):
        a, b = _pairs(first, count, pairing)
        source = before[..., a] + 1j * before[..., b]
        target = after[..., a] + 1j * after[..., b]
        power = (np.abs(source) ** 2).sum(0)
        if not power.all():
            return None
        factors = (target * source.conj()).sum(0) / power
        if np.abs(target - source * factors).max() > limit or not _turns_by_position(factors):
            continue
        if (
            np.ptp(source.real, axis=0).max() <= limit
            and np.ptp(source.imag, axis=0).max() <= limit
        ):
            # Rows that are all the same fit any factors.
            continue
        return Rotation(feature_axis, position_axis, width, first, last, pairing, factors)
    return None


def _turns_by_position(factors: Factors) -> bool:
    """Return whether all factors have one length, and each pair's angle grows by one step.

    Whatever multiplies each feature by itself has factors too; without a step it turns nothing.
    """
    lengths = np.abs(factors)
    if not lengths.max() or np.ptp(lengths) > _STEADY * lengths.max():
        return False
    steps = factors[1:] * factors[:-1].conj() / lengths.max() ** 2
    is_steady = bool(np.abs(steps - steps[:1]).max() <= _STEADY)
    return is_steady and bool(np.abs(steps - 1.0).max() > _STEADY)


def _as_rows(data: Array, feature_axis: int, position_axis: int) -> Array:
    """Return a tensor as (rows, positions, features)."""
    moved = np.moveaxis(data, (position_axis, feature_axis), (-2, -1))
    return moved.reshape(-1, *moved.shape[-2:])


def _pairs(first: int, count: int, pairing: str) -> tuple[Places, Places]:
    """Return the places of the two features of each pair."""
    if pairing == HALVES:
        places: Places = np.arange(first, first + count // 2)
        return places, places + count // 2
    places = np.arange(first, first + count, 2)
    return places, places + 1


def _as_table(rotation: Rotation) -> Array:
    """Return cosines and sines as the table (positions, 2·pairs) that they are computed from."""
    return np.concatenate([rotation.factors.real, rotation.factors.imag], axis=1)


def _format_range(rotation: Rotation) -> str:
    return f"{rotation.first} to {rotation.last} of {rotation.width}"
