"""Pairs that the user states: the alignment keeps them and derives the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from parity.errors import AlignmentError
from parity.network.alignment.skeleton import Skeleton


@dataclass(frozen=True)
class GivenPair:
    """Operations, by node id, that are a pair; none on a side: the other has no partner."""

    reference: tuple[str, ...]
    other: tuple[str, ...]
    label: str = ""
    """Where it is stated, for an error: `pairs.csv: row 3`."""


@dataclass(frozen=True)
class FixedPartners:
    """Partners that are given, by index; -1 for none. All others may be chosen freely."""

    partners: Mapping[int, int] = field(default_factory=dict)
    """By the reference's index."""
    alone: frozenset[int] = frozenset()
    """Indices of the other skeleton that have no partner."""

    @property
    def inverse(self) -> dict[int, int]:
        """By the other's index, those without partner included."""
        found = {two: one for one, two in self.partners.items() if two >= 0}
        return found | dict.fromkeys(self.alone, -1)

    def __bool__(self) -> bool:
        return bool(self.partners or self.alone)


@dataclass(frozen=True)
class Fixed:
    """The given partners of units, the parts with weights, and of weightless parts."""

    units: FixedPartners = field(default_factory=FixedPartners)
    parts: FixedPartners = field(default_factory=FixedPartners)


def fix_partners(left: Skeleton, right: Skeleton, given: Iterable[GivenPair]) -> Fixed:
    """Return the partners that the given pairs state in two skeletons.

    Raises `AlignmentError` for an operation that has no place of its own in its skeleton, for a
    pair of one with weights and one without, and for two pairs that contradict one another.
    """
    places = _find_places(left), _find_places(right)
    found: dict[str, tuple[dict[int, int], dict[int, int]]] = {
        "unit": ({}, {}),
        "part": ({}, {}),
    }
    for pair in given:
        sides = [
            _find_place(places[side], nodes, pair) if nodes else None
            for side, nodes in enumerate((pair.reference, pair.other))
        ]
        names = {side[0] for side in sides if side is not None}
        if len(names) > 1:
            raise AlignmentError(
                f"{pair.label}: a layer with weights and one without are given as a pair"
            )
        one, two = (-1 if side is None else side[1] for side in sides)
        for name in names:
            forward, backward = found[name]
            _set(forward, one, two, pair)
            _set(backward, two, one, pair)
    units, parts = (
        FixedPartners(forward, frozenset(two for two, one in backward.items() if one < 0))
        for forward, backward in (found["unit"], found["part"])
    )
    return Fixed(units, parts)


def _find_places(skeleton: Skeleton) -> dict[str, tuple[str, int]]:
    """Return, by node, its unit or its weightless part."""
    found: dict[str, tuple[str, int]] = {}
    for index, part in enumerate(skeleton.parts):
        unit = skeleton.unit_of.get(index)
        for node in part.nodes:
            # A node of several parts is the unit's, which has the weights.
            if unit is not None or node not in found:
                found[node] = ("part", index) if unit is None else ("unit", unit)
    return found


def _find_place(
    places: Mapping[str, tuple[str, int]], nodes: Sequence[str], pair: GivenPair
) -> tuple[str, int]:
    """Return the unit of operations that are one pair, or else their weightless part."""
    found = [places[node] for node in nodes if node in places]
    if not found:
        raise AlignmentError(
            f"{pair.label}: the operation changes a shape alone, or belongs to another one; only "
            "the operations that `parity align` prints can be given"
        )
    # Of nested concatenations the last one makes the tensor that both have.
    return next((place for place in found if place[0] == "unit"), found[-1])


def _set(partners: dict[int, int], one: int, two: int, pair: GivenPair) -> None:
    if one < 0:
        return
    if partners.setdefault(one, two) != two:
        raise AlignmentError(f"{pair.label}: contradicts a row above it: another partner is given")
