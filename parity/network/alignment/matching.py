"""The matching of two skeletons: which weighted part of one is which of the other.

A longest common subsequence of the units gives the first pairs; then neighbours pair what is left,
and swaps of units and of branches correct what the order got wrong. All steps raise one score: the
features that partners share, and the links between units that the pairs keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.alignment import anchors, families
from parity.network.alignment.given import Fixed
from parity.network.alignment.skeleton import RADII, Skeleton

Matrix = NDArray[np.float32]
Flags = NDArray[np.bool_]

_EQUAL_WEIGHTS = 40.0
"""The score of equal weights, above that of all other features together."""

_GIVEN = 1e4
"""The score of partners that the user states."""

_RELAXED = 0.5
"""The score of partners of one family whose weights have different shapes."""


@dataclass(frozen=True)
class Features:
    """What each unit of one skeleton has in common with each of the other, (units, units)."""

    reference: Skeleton
    other: Skeleton
    fixed: Fixed = field(default_factory=Fixed)

    @cached_property
    def given(self) -> Flags:
        """The partners that are given."""
        found = np.zeros((len(self.reference), len(self.other)), bool)
        for unit, partner in self.fixed.units.partners.items():
            if partner >= 0:
                found[unit, partner] = True
        return found

    def _keep_given(self, flags: Flags) -> Flags:
        """Return flags in which what is given has no other partner than the given one."""
        units = self.fixed.units
        if units:
            flags = flags.copy()
            flags[list(units.partners)] = False
            flags[:, list(units.inverse)] = False
        return np.asarray(flags | self.given)

    @cached_property
    def same_kind(self) -> Flags:
        """The same family and the same lengths of the main weight; or given as partners."""
        same = _equal(self.reference.kinds, self.other.kinds)
        return self._keep_given(np.asarray(same & ~self.other_channels))

    @cached_property
    def other_channels(self) -> Flags:
        """Convolutions whose kernels have the same lengths, but not as the same axes.

        A grouped one from 4 channels each to 128 has the lengths of one from 128 channels to 4.
        """
        left, right = self.reference.filters, self.other.filters
        known = np.outer([each is not None for each in left], [each is not None for each in right])
        same = _equal(self.reference.kinds, self.other.kinds)
        return np.asarray(same & known & ~_equal(left, right))

    @cached_property
    def same_family(self) -> Flags:
        """The same family, unless the kernels contradict that."""
        left, right = (
            [each.family(unit) for unit in range(len(each))]
            for each in (self.reference, self.other)
        )
        return self._keep_given(np.asarray(_equal(left, right) & ~self.other_channels))

    @cached_property
    def equal_weights(self) -> Flags:
        """Weights with the same moments, of parts that may be partners."""
        equal = anchors.find_equal(self.reference, self.other)
        return np.asarray(equal & (self._keep_given(equal)))

    @cached_property
    def informative(self) -> tuple[Flags, Flags]:
        """Units of each skeleton whose weights have values that can be compared."""
        return anchors.find_informative(self.reference), anchors.find_informative(self.other)

    @cached_property
    def anchored(self) -> bool:
        """Whether both models hold the same weights."""
        return anchors.share_weights(self.equal_weights, *self.informative)

    @cached_property
    def places(self) -> Matrix:
        """The score of what does not depend on pairs: sizes, contexts, slots, settings."""
        a, b = self.reference, self.other
        score = (
            1.0 * _equal(a.sizes, b.sizes)
            + 2.0 * _equal(a.context_before, b.context_before)
            + 2.0 * _equal(a.context_behind, b.context_behind)
            + 2.0 * _equal(a.slots, b.slots)
            + 1.0 * _equal(a.routes, b.routes)
            + 1.0 * _equal(a.before_kinds, b.before_kinds)
            + 1.0 * _equal(a.behind_kinds, b.behind_kinds)
            + 1.0 * _equal(a.settings, b.settings)
            + 0.5 * _equal(a.following, b.following)
            + 1.0 * _equal(a.roles, b.roles)
        )
        if self.anchored:
            score = score + _EQUAL_WEIGHTS * self.equal_weights
        return np.asarray(score, np.float32)

    @cached_property
    def colours(self) -> Matrix:
        """The number of colours that are equal."""
        a, b = self.reference, self.other
        pairs = [(a.full_colours, b.full_colours)]
        for radius in RADII:
            pairs.append((a.before_colours[radius], b.before_colours[radius]))
            pairs.append((a.behind_colours[radius], b.behind_colours[radius]))
        equal = [_equal(left, right) for left, right in pairs]
        return np.asarray(np.sum(equal, axis=0), np.float32)

    @cached_property
    def sequence(self) -> Matrix:
        """The score in the common subsequence; -1 for what cannot be partners."""
        strict = 4.0 + self.places + self.colours
        a, b = self.reference, self.other
        relaxed = (
            _RELAXED
            + 0.5 * _equal(a.before_kinds, b.before_kinds)
            + 0.5 * _equal(a.behind_kinds, b.behind_kinds)
        )
        if self.anchored:
            relaxed = relaxed + _EQUAL_WEIGHTS * self.equal_weights
        score = np.where(self.same_kind, strict, np.where(self.same_family, relaxed, -1.0))
        return np.asarray(score + _GIVEN * self.given, np.float32)

    @cached_property
    def local(self) -> Matrix:
        """The score of a pair without its links."""
        near = np.zeros_like(self.places)
        a, b = self.reference, self.other
        for radius in (1, 2):
            near += _equal(a.before_colours[radius], b.before_colours[radius])
            near += _equal(a.behind_colours[radius], b.behind_colours[radius])
        strict = 2.0 + self.places + near
        relaxed = 0.25 * self.places
        if self.anchored:
            relaxed = relaxed + _EQUAL_WEIGHTS * self.equal_weights
        return np.where(self.same_kind, strict, relaxed).astype(np.float32)


@dataclass
class Matching:
    """Partners by unit, -1 for none, and the score of links."""

    features: Features
    partners: NDArray[np.int64]
    _counted: tuple[bytes, Matrix, Matrix] | None = field(default=None, repr=False)

    def copy(self) -> Matching:
        """Return a matching that can be changed apart from this one."""
        return Matching(self.features, self.partners.copy())

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of units."""
        return [(unit, int(each)) for unit, each in enumerate(self.partners) if each >= 0]

    @property
    def inverse(self) -> NDArray[np.int64]:
        """The partners of the other's units."""
        found = np.full(len(self.features.other), -1, np.int64)
        matched = self.partners >= 0
        found[self.partners[matched]] = np.nonzero(matched)[0]
        return found

    def links(self) -> Matrix:
        """Return for every possible pair 2·(links kept − links broken), (units, units).

        Only links to matched units count.
        """
        return self._count_links()[1]

    def kept_links(self) -> Matrix:
        """Return for every possible pair the number of links that it keeps, (units, units)."""
        return self._count_links()[0]

    def broken_links(self, unit: int, partner: int) -> float:
        """Return the number of links of both units that a pair breaks."""
        kept, links = self._count_links()
        return float(kept[unit, partner] - links[unit, partner] / 2)

    def _count_links(self) -> tuple[Matrix, Matrix]:
        key = self.partners.tobytes()
        if self._counted is None or self._counted[0] != key:
            one, two = self._matched_links()
            kept = _multiply_sparse(one, np.ascontiguousarray(two.T))
            total = one.sum(1)[:, None] + two.sum(1)[None]
            self._counted = key, kept, np.asarray(2.0 * (3.0 * kept - total), np.float32)
        return self._counted[1:]

    def _matched_links(self) -> tuple[Matrix, Matrix]:
        """Return the links of all units to matched ones: those in front, then those behind."""
        a, b = self.features.reference, self.features.other
        matched = np.nonzero(self.partners >= 0)[0]
        images = self.partners[matched]
        one = np.concatenate([each[:, matched] for each in a.links], axis=1)
        two = np.concatenate([each[:, images] for each in b.links], axis=1)
        return one, two

    def score(self) -> float:
        """Return the score of the whole matching."""
        rows = np.nonzero(self.partners >= 0)[0]
        columns = self.partners[rows]
        one, two = self._matched_links()
        one, two = one[rows], two[columns]
        links = 2.0 * (3.0 * (one * two).sum() - one.sum() - two.sum())
        return float(self.features.local[rows, columns].sum() + links) + 2.0 * len(rows)


def _multiply_sparse(left: Matrix, right: Matrix) -> Matrix:
    """Return the matrix product; `left` has few values that are not 0."""
    rows, columns = np.nonzero(left)
    product = np.zeros((left.shape[0], right.shape[1]), np.float32)
    if len(rows):
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        product[rows[starts]] = np.add.reduceat(right[columns], starts, axis=0)
    return product


def match(features: Features) -> Matching:
    """Return the best matching over all orders of the units."""
    a, b = features.reference.orders(), features.other.orders()
    tried: dict[bytes, Matching] = {}
    for order in a:
        partners = _find_subsequence(features, a[order], b[order])
        # Those that are given may stand in another order than the rest.
        for unit, partner in features.fixed.units.partners.items():
            if partner >= 0:
                partners[unit] = partner
        tried.setdefault(partners.tobytes(), Matching(features, partners))
    best = max((_improve(each) for each in tried.values()), key=Matching.score)
    _swap_branches(best)
    _drop_strays(best)
    _pair_neighbours(best, relaxed=True)
    return best


def _improve(matching: Matching) -> Matching:
    _drop_strays(matching)
    _pair_neighbours(matching)
    _swap(matching)
    _pair_neighbours(matching)
    return matching


def _find_subsequence(
    features: Features, left: Sequence[int], right: Sequence[int]
) -> NDArray[np.int64]:
    """Return the partners by the common subsequence of two orders with the highest score."""
    score = features.sequence[np.ix_(left, right)]
    rows, columns = score.shape
    best = np.zeros((rows + 1, columns + 1), np.float32)
    taken = np.where(score > 0, score, -np.inf)
    for row in range(rows - 1, -1, -1):
        below = best[row + 1]
        here = np.maximum(below[:-1], taken[row] + below[1:])
        best[row, :-1] = np.maximum.accumulate(here[::-1])[::-1]
    partners = np.full(len(features.reference), -1, np.int64)
    row = column = 0
    while row < rows and column < columns:
        value = best[row, column]
        if value == taken[row, column] + best[row + 1, column + 1]:
            partners[left[row]] = right[column]
            row, column = row + 1, column + 1
        elif value == best[row + 1, column]:
            row += 1
        else:
            column += 1
    return partners


def _drop_strays(matching: Matching) -> None:
    """Drop the pairs of different shapes that keep no link, or break more links than they keep."""
    features = matching.features
    for _ in range(3):
        links, kept = matching.links(), matching.kept_links()
        dropped = 0
        for unit, partner in matching.pairs:
            if features.same_kind[unit, partner]:
                continue
            if features.anchored and features.equal_weights[unit, partner]:
                continue
            if kept[unit, partner] == 0 or links[unit, partner] < 0:
                matching.partners[unit] = -1
                dropped += 1
        if not dropped:
            return


def _pair_neighbours(matching: Matching, *, relaxed: bool = False) -> None:
    """Pair the units left over that are each other's only best partner by their links."""
    features = matching.features
    for _ in range(20):
        inverse = matching.inverse
        rows = np.nonzero(matching.partners < 0)[0]
        columns = np.nonzero(inverse < 0)[0]
        if not len(rows) or not len(columns):
            return
        where = np.ix_(rows, columns)
        links, kept = matching.links()[where], matching.kept_links()[where]
        fits = features.same_family[where] if relaxed else features.same_kind[where]
        allowed = fits & (kept > 0) & (links > (0 if relaxed else -8))
        if features.anchored:
            allowed |= features.equal_weights[where]
        value = np.where(allowed, features.local[where] + links, -np.inf)
        found = 0
        for row, column in zip(*np.nonzero(allowed), strict=True):
            best = value[row, column]
            is_best = best == value[row].max() and best == value[:, column].max()
            if (
                is_best
                and (value[row] == best).sum() == 1
                and (value[:, column] == best).sum() == 1
            ):
                matching.partners[rows[row]] = columns[column]
                found += 1
        if not found:
            return


def _swap(matching: Matching) -> None:
    """Exchange the partners of two units while that raises the score."""
    features = matching.features
    score = matching.score()
    for _ in range(10):
        rows = np.nonzero(matching.partners >= 0)[0]
        columns = matching.partners[rows]
        value = (features.local + matching.links())[np.ix_(rows, columns)]
        own = np.diagonal(value)
        gain = value + value.T - own[:, None] - own[None]
        allowed = features.same_kind[np.ix_(rows, columns)]
        gain = np.where(allowed & allowed.T, gain, -np.inf)
        np.fill_diagonal(gain, -np.inf)
        before = matching.partners.copy()
        used = np.zeros(len(rows), bool)
        first, second = np.nonzero(np.triu(gain > 0))
        for at in np.argsort(-gain[first, second], kind="stable"):
            one, two = first[at], second[at]
            if used[one] or used[two]:
                continue
            used[one] = used[two] = True
            matching.partners[rows[[one, two]]] = columns[[two, one]]
        after = matching.score()
        if after <= score:
            matching.partners = before
            return
        score = after


def _swap_branches(matching: Matching) -> None:
    """Exchange whole branches: two units and the chains of units before and behind them."""
    for _ in range(4):
        changed = False
        for unit in find_suspects(matching):
            if matching.partners[unit] < 0:
                continue
            best, chosen = 1e-6, None
            for chain in find_exchanges(matching, unit):
                gain = exchange_gain(matching, chain)
                if gain > best:
                    best, chosen = gain, chain
            if chosen is not None:
                exchange(matching, chosen)
                changed = True
        if not changed:
            return


def find_suspects(matching: Matching) -> list[int]:
    """Return the matched units whose partner has another place in its graph."""
    features = matching.features
    a, b = features.reference, features.other
    found = []
    for unit, partner in matching.pairs:
        broken = matching.broken_links(unit, partner)
        same = all(
            getattr(a, name)[unit] == getattr(b, name)[partner]
            for name in (
                "context_before", "context_behind", "slots", "before_kinds", "behind_kinds",
                "settings", "sizes",
            )
        )  # fmt: skip
        if broken > 0 or not same:
            found.append(unit)
    return found


Chain = list[tuple[int, int]]


def find_exchanges(matching: Matching, unit: int) -> Iterable[Chain]:
    """Return the exchanges of a unit with another, alone and with the chains around both."""
    a = matching.features.reference
    fixed = matching.features.fixed.units.partners
    if unit in fixed:
        return
    for other, partner in enumerate(matching.partners):
        if other == unit or partner < 0 or a.kinds[other] != a.kinds[unit] or other in fixed:
            continue
        if abs(a.depths[other] - a.depths[unit]) > 6:
            continue
        yield [(unit, other)]
        chain = _follow(matching, unit, other)
        if len(chain) > 1:
            yield chain
            behind = [pair for pair in chain if pair[0] >= unit]
            if 1 < len(behind) < len(chain):
                yield behind
            before = [pair for pair in chain if pair[0] <= unit]
            if 1 < len(before) < len(chain):
                yield before


def _follow(matching: Matching, unit: int, other: int) -> Chain:
    """Return the pairs of units of one kind that follow two units on both sides, one by one."""
    a = matching.features.reference
    chain = [(unit, other)]
    used = {unit, other}
    for name in ("before", "behind"):
        one, two = unit, other
        while True:
            near = [[q for q in getattr(a.units[each], name) if matching.partners[q] >= 0]
                    for each in (one, two)]  # fmt: skip
            if len(near[0]) != 1 or len(near[1]) != 1:
                break
            one, two = near[0][0], near[1][0]
            back = "behind" if name == "before" else "before"
            alone = len(getattr(a.units[one], back)) == 1 or name == "behind"
            if (
                {one, two} & (used | matching.features.fixed.units.partners.keys())
                or a.kinds[one] != a.kinds[two]
                or not alone
            ):
                break
            used |= {one, two}
            chain.append((one, two))
    return chain


def exchange(matching: Matching, chain: Chain) -> None:
    """Exchange the partners of each pair of units."""
    for one, two in chain:
        partners = matching.partners
        partners[one], partners[two] = partners[two], partners[one]


def exchange_gain(matching: Matching, chain: Chain) -> float:
    """Return by how much the score rises if the partners of these units are exchanged."""
    a = matching.features.reference
    ends = {unit for pair in chain for unit in pair}
    touched = sorted(
        ends.union(*(a.units[each].before for each in ends), *(a.units[e].behind for e in ends))
    )
    before = _score_of(matching, touched)
    exchange(matching, chain)
    after = _score_of(matching, touched)
    exchange(matching, chain)
    return after - before


def _score_of(matching: Matching, units: Sequence[int]) -> float:
    """Return the score of some pairs, with their links."""
    a, b = matching.features.reference, matching.features.other
    inverse = matching.inverse
    total = 0.0
    for unit in units:
        partner = int(matching.partners[unit])
        if partner < 0:
            continue
        total += float(matching.features.local[unit, partner])
        for name in ("before", "behind"):
            images = {int(matching.partners[q]) for q in getattr(a.units[unit], name)} - {-1}
            near = {q for q in getattr(b.units[partner], name) if inverse[q] >= 0}
            kept = len(images & near)
            total += 2.0 * (3.0 * kept - len(images) - len(near))
    return total


def _equal(left: Sequence[Any], right: Sequence[Any]) -> Flags:
    """Return which values of two lists are equal, (left, right)."""
    codes: dict[Any, int] = {}
    one = np.array([codes.setdefault(repr(each), len(codes)) for each in left])
    two = np.array([codes.setdefault(repr(each), len(codes)) for each in right])
    return np.asarray(one[:, None] == two[None])


def is_port(features: Features, unit: int) -> bool:
    """Return whether a unit of the reference is an input or an output of the model."""
    return features.reference.family(unit) in (families.INPUT, families.OUTPUT)
