"""The pairing of the weightless parts, between the units that are paired already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from parity.network.alignment.canonical import Part
from parity.network.alignment.matching import Matching
from parity.network.alignment.skeleton import Skeleton

Place = tuple[str, int]
"""A unit or a weightless part, as one point of its graph."""


@dataclass
class Places:
    """One graph as units and weightless parts, with their neighbours both ways."""

    skeleton: Skeleton
    before: dict[Place, list[Place]] = field(default_factory=dict)
    behind: dict[Place, list[Place]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = self.skeleton.parts
        for index, part in enumerate(parts):
            place = self.place(index)
            self.before.setdefault(place, [])
            self.behind.setdefault(place, [])
            for source in part.sources:
                for near in self._resolve(part, source, place):
                    if near not in self.before[place]:
                        self.before[place].append(near)
                    if place not in self.behind[near]:
                        self.behind[near].append(place)

    def _resolve(self, part: Part, source: int, place: Place) -> list[Place]:
        """Return the places that a source of a part stands for.

        A concatenation of a concatenation reads what that one reads: one model concatenates at once
        what the other does in pairs.
        """
        if source < 0 or self.place(source) == place:
            return []
        near = self.place(source)
        nested = self.skeleton.parts[source]
        if part.family == nested.family == "concat" and not nested.weights:
            return self.before[near]
        return [near]

    def place(self, part: int) -> Place:
        """Return the place of a part."""
        unit = self.skeleton.unit_of.get(part)
        return ("part", part) if unit is None else ("unit", unit)

    @property
    def weightless(self) -> list[int]:
        """The parts without weights, in execution order."""
        parts = range(len(self.skeleton.parts))
        return [part for part in parts if part not in self.skeleton.unit_of]


@dataclass(frozen=True)
class Weightless:
    """The partners of the reference's weightless parts, by index.

    `twins` are those that another part does as well for: it reads and feeds the same.
    """

    partners: Mapping[int, int]
    twins: frozenset[int] = frozenset()

    @property
    def inverse(self) -> dict[int, int]:
        """The partners of the other's weightless parts."""
        return {partner: part for part, partner in self.partners.items()}


def pair_weightless(matching: Matching) -> Weightless:
    """Return the partners of the weightless parts of the reference.

    A partner reads and feeds the partners of what the part reads and feeds. The same kind comes
    first, then the same family, then any operation at the same place.
    """
    left = Places(matching.features.reference)
    right = Places(matching.features.other)
    partners: dict[Place, Place] = {
        ("unit", unit): ("unit", partner) for unit, partner in matching.pairs
    }
    fixed = matching.features.fixed.parts
    partners |= {("part", one): ("part", two) for one, two in fixed.partners.items() if two >= 0}
    blocked = {("part", one) for one, two in fixed.partners.items() if two < 0}
    pairing = _Pairing(left, right, partners, blocked, {("part", two) for two in fixed.alone})
    for level in ("kind", "family", "kind", "family", "twin", "kind", "family", "any"):
        for complete in (True, True, False):
            while pairing.sweep(level, complete=complete):
                pass
    found = {
        place[1]: partner[1] for place, partner in pairing.partners.items() if place[0] == "part"
    }
    return Weightless(found, frozenset(place[1] for place in pairing.twins))


class _Pairing:
    """The partners found so far, in both directions."""

    def __init__(
        self,
        left: Places,
        right: Places,
        partners: dict[Place, Place],
        blocked: set[Place],
        blocked_right: set[Place],
    ) -> None:
        """`blocked` have no partner, on the left and on the right."""
        self.left, self.right, self.partners = left, right, partners
        self.blocked, self.blocked_right = blocked, blocked_right
        self.twins: list[Place] = []
        self.inverse = {partner: place for place, partner in partners.items()}

    def sweep(self, level: str, *, complete: bool) -> int:
        """Pair what one pass forwards and one backwards can; return how many."""
        found = 0
        for forwards in (True, False):
            parts = self.left.weightless
            for part in parts if forwards else reversed(parts):
                place = ("part", part)
                if place in self.partners or place in self.blocked:
                    continue
                partner = self._find(place, level, forwards, complete)
                if partner is not None:
                    self.partners[place] = partner
                    self.inverse[partner] = place
                    found += 1
        return found

    def _find(self, place: Place, level: str, forwards: bool, complete: bool) -> Place | None:
        """Return the only partner that fits; `complete` asks for all neighbours on one side."""
        near_left = self.left.before if forwards else self.left.behind
        near_right = self.right.before if forwards else self.right.behind
        far_left = self.left.behind if forwards else self.left.before
        far_right = self.right.behind if forwards else self.right.before
        images = [self.partners[each] for each in near_left[place] if each in self.partners]
        if not images or (complete and len(images) < len(near_left[place])):
            return None
        candidates = [
            each
            for each in dict.fromkeys(q for image in images for q in far_right[image])
            if each[0] == "part"
            and each not in self.inverse
            and each not in self.blocked_right
            and self._fits(place, each, level)
        ]
        if complete:
            candidates = [c for c in candidates if set(near_right[c]) == set(images)]
        else:
            candidates = [c for c in candidates if set(images) <= set(near_right[c])]
            candidates = [c for c in candidates if not self._contradicts(place, c)]
        if level == "any":
            # Another operation: both its sides must be at the same place.
            candidates = [
                c for c in candidates if self._shares(far_left[place], far_right[c], need=True)
            ]
        if len(candidates) > 1:
            chosen = [c for c in candidates if self._shares(far_left[place], far_right[c])]
            candidates = chosen or candidates
        if level == "twin" and complete and len(candidates) > 1:
            near = {
                (frozenset(self.right.before[c]), frozenset(self.right.behind[c]))
                for c in candidates
            }
            if len(near) == 1:
                self.twins.append(place)
                return candidates[0]
        if len(candidates) > 1:
            sizes = self.left.skeleton.canonical.shapes[place[1]]
            others = self.right.skeleton.canonical.shapes
            candidates = [c for c in candidates if others[c[1]] == sizes] or candidates
        return candidates[0] if len(candidates) == 1 else None

    def _fits(self, place: Place, candidate: Place, level: str) -> bool:
        one = self.left.skeleton.parts[place[1]]
        two = self.right.skeleton.parts[candidate[1]]
        if level in ("kind", "twin"):
            return one.kind == two.kind
        if level == "family":
            return one.family == two.family
        left, right = self.left.skeleton.canonical, self.right.skeleton.canonical
        return left.shapes[place[1]] == right.shapes[candidate[1]]

    def _contradicts(self, place: Place, candidate: Place) -> bool:
        """Return whether a neighbour's partner is no neighbour of the candidate."""
        for near, theirs in (
            (self.left.before[place], self.right.before[candidate]),
            (self.left.behind[place], self.right.behind[candidate]),
        ):
            images = {self.partners[each] for each in near if each in self.partners}
            back = {each for each in theirs if each in self.inverse}
            if images and back and not images & back:
                return True
        return False

    def _shares(self, left: Iterable[Place], right: Iterable[Place], *, need: bool = False) -> bool:
        """Return whether the partners of one side's neighbours are the other side's."""
        images = {self.partners[each] for each in left if each in self.partners}
        known = {each for each in right if each in self.inverse}
        return images == known and (bool(images) or not need)
