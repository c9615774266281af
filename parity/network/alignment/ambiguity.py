"""How certain the pairs of a matching are, and which partners could be exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parity.network.alignment.matching import (
    Features,
    Matching,
    exchange_gain,
    find_exchanges,
    find_suspects,
)
from parity.network.alignment.result import Confidence
from parity.network.alignment.skeleton import Skeleton

_MARGIN = 2.0
"""By how much a partner must score above the next best one to be the only one."""


@dataclass
class Judgement:
    """The confidence of each unit of the reference that has a partner, with the reason."""

    confidence: dict[int, Confidence] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    groups: list[tuple[int, ...]] = field(default_factory=list)
    """Units of the reference whose partners could be exchanged."""


def judge(matching: Matching) -> Judgement:
    """Return how certain each pair of units is."""
    features = matching.features
    a, b = features.reference, features.other
    known = _find_known(matching)
    groups = [
        group
        for group in _merge([*_find_symmetric(matching), *_find_shifted(matching),
                             *_find_exchangeable(matching)])
        if not set(group) <= known
    ]  # fmt: skip
    open_units = {unit for group in groups for unit in group} - known
    value = features.local + matching.links()
    kept = matching.kept_links()
    full = [_count(each.full_colours) for each in (a, b)]
    judgement = Judgement(groups=[tuple(u for u in g if u not in known) for g in groups])
    for unit, partner in matching.pairs:
        broken = matching.broken_links(unit, partner)
        if features.given[unit, partner]:
            verdict, reason = Confidence.SURE, "given"
        elif unit in known:
            sure = broken <= kept[unit, partner]
            verdict = Confidence.SURE if sure else Confidence.PROBABLE
            reason = "equal weights" if sure else "equal weights, at another place of the graph"
        elif unit in open_units:
            verdict, reason = Confidence.AMBIGUOUS, "another partner fits as well"
        elif not features.same_kind[unit, partner]:
            verdict, reason = Confidence.PROBABLE, "another shape at the same place"
        elif (
            a.full_colours[unit] == b.full_colours[partner]
            and full[0][a.full_colours[unit]] == full[1][b.full_colours[partner]] == 1
        ):
            verdict, reason = Confidence.SURE, "the only place of its kind in both graphs"
        elif _is_distinct(features, value, unit, partner) and broken == 0 and kept[unit, partner]:
            verdict, reason = Confidence.SURE, "all neighbours are paired, and no other fits"
        else:
            verdict, reason = Confidence.PROBABLE, "the best fit by its neighbours"
        judgement.confidence[unit], judgement.reasons[unit] = verdict, reason
    return judgement


def _find_known(matching: Matching) -> set[int]:
    """Return the units whose partner is given, or holds the same weights, and no other does."""
    features = matching.features
    given = {unit for unit, partner in matching.pairs if features.given[unit, partner]}
    if not features.anchored:
        return given
    equal = features.equal_weights
    return given | {
        unit
        for unit, partner in matching.pairs
        if equal[unit, partner] and equal[unit].sum() == 1 and equal[:, partner].sum() == 1
    }


def _is_distinct(
    features: Features,
    value: NDArray[np.float32],
    unit: int,
    partner: int,
) -> bool:
    """Return whether the near surroundings are equal, and no other partner comes close."""
    a, b = features.reference, features.other
    for radius in (1, 2):
        if a.before_colours[radius][unit] != b.before_colours[radius][partner]:
            return False
        if a.behind_colours[radius][unit] != b.behind_colours[radius][partner]:
            return False
    own = value[unit, partner]
    row = np.where(features.same_kind[unit], value[unit], -np.inf)
    column = np.where(features.same_kind[:, partner], value[:, partner], -np.inf)
    row[partner] = column[unit] = -np.inf
    return bool(max(row.max(), column.max()) <= own - _MARGIN)


def _count(values: Iterable[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def _find_symmetric(matching: Matching) -> list[tuple[int, ...]]:
    """Return the groups of units that one of the graphs could exchange without a change."""
    a, b = matching.features.reference, matching.features.other
    inverse = matching.inverse
    groups: list[tuple[int, ...]] = []
    for skeleton, to_reference in ((a, None), (b, inverse)):
        by_colour: dict[int, list[int]] = {}
        for unit, colour in enumerate(skeleton.full_colours):
            own = unit if to_reference is None else int(to_reference[unit])
            if own >= 0:
                by_colour.setdefault(colour, []).append(own)
        groups += [tuple(units) for units in by_colour.values() if len(units) > 1]
    return groups


def _find_exchangeable(matching: Matching) -> list[tuple[int, ...]]:
    """Return the groups of units of which an exchange of partners does not lower the score."""
    features = matching.features
    groups: list[tuple[int, ...]] = []
    value = features.local + matching.links()
    rows = np.nonzero(matching.partners >= 0)[0]
    if not len(rows):
        return []
    columns = matching.partners[rows]
    own = value[rows, columns]
    # A partner that has none itself, and fits as well.
    free = np.nonzero(matching.inverse < 0)[0]
    for column in free:
        fits = features.same_kind[rows, column] & (value[rows, column] >= own)
        groups += [(int(unit), -1) for unit in rows[fits]]
    for row in np.nonzero(matching.partners < 0)[0]:
        fits = features.same_kind[row, columns] & (value[row, columns] >= own)
        groups += [(int(unit), int(row)) for unit in rows[fits]]
    block = value[np.ix_(rows, columns)]
    gain = block + block.T - own[:, None] - own[None]
    same = features.same_kind[np.ix_(rows, columns)]
    near = np.triu(same & same.T & (gain >= -_MARGIN), 1)
    for one, two in zip(*np.nonzero(near), strict=True):
        pair = (int(rows[one]), int(rows[two]))
        if exchange_gain(matching, [pair]) >= 0:
            groups.append(pair)
    for unit in find_suspects(matching):
        for chain in find_exchanges(matching, unit):
            if exchange_gain(matching, chain) >= -_MARGIN:
                groups += chain
    return groups


def _find_shifted(matching: Matching) -> list[tuple[int, ...]]:
    """Return the runs of equal blocks of which one side has fewer.

    Which of the blocks is missing cannot be seen: every pair that shifts with it is open.
    """
    a, b = matching.features.reference, matching.features.other
    inverse = matching.inverse
    every = [
        (a, [int(each) for each in matching.partners], list(range(len(a)))),
        (b, [int(each) for each in inverse], [int(each) for each in inverse]),
    ]
    groups: list[tuple[int, ...]] = []
    for skeleton, partners, own in every:
        for order in skeleton.orders().values():
            free = [at for at, unit in enumerate(order) if partners[unit] < 0]
            for first, last, period in _runs(free):
                shifted = _extend(skeleton, order, first, last, period)
                units = [own[order[at]] for at in shifted]
                group = tuple(unit for unit in units if unit >= 0)
                if group:
                    groups.append((*group, -1))
    return groups


def _runs(free: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return first, last and number of unmatched places: each run, and all together."""
    runs: list[list[int]] = []
    for at in free:
        if runs and at == runs[-1][-1] + 1:
            runs[-1].append(at)
        else:
            runs.append([at])
    found = [(run[0], run[-1], len(run)) for run in runs]
    if len(runs) > 1:
        found.append((free[0], free[-1], len(free)))
    return found


def _extend(
    skeleton: Skeleton, order: Sequence[int], first: int, last: int, period: int
) -> list[int]:
    """Return the places around a run that repeat with the run's length."""
    kinds = skeleton.kinds
    low, high = first, last
    while low > 0 and kinds[order[low - 1]] == kinds[order[low - 1 + period]]:
        low -= 1
    while high + 1 < len(order) and kinds[order[high + 1]] == kinds[order[high + 1 - period]]:
        high += 1
    return list(range(low, high + 1)) if (low, high) != (first, last) else []


def _merge(groups: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """Join the groups that share a unit; -1 stands for units of the other graph."""
    parent: dict[int, int] = {}

    def find(unit: int) -> int:
        parent.setdefault(unit, unit)
        while parent[unit] != unit:
            parent[unit] = parent[parent[unit]]
            unit = parent[unit]
        return unit

    for group in groups:
        units = [unit for unit in group if unit >= 0]
        for unit in units:
            parent[find(unit)] = find(units[0])
    found: dict[int, list[int]] = {}
    for unit in sorted(parent):
        found.setdefault(find(unit), []).append(unit)
    return [tuple(units) for units in found.values()]
