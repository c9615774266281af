"""Partners that only the numbers behind them tell apart: layers of one kind that read the same.

With the weights of its partner copied, each of them gives what the partner gives, whichever of them
is the partner. What reads them then differs, and an exchange is tried in a run.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from parity.network.alignment.assembly import Assembly
from parity.network.alignment.result import Alignment
from parity.network.alignment.skeleton import Skeleton
from parity.network.alignment.weightless import pair_weightless


def list_exchanges(alignment: Alignment, agreeing: Collection[str]) -> Iterator[Alignment]:
    """Yield the alignments in which two partners are exchanged that could be the wrong ones.

    `agreeing` are the reference's tensors that agree with their partners in a run with the same
    weights. Both layers read tensors that agree, and something that reads them does not.
    """
    assembly = alignment.assembly
    if not isinstance(assembly, Assembly):
        raise TypeError("the alignment does not come from `align`")
    a, b, matching = assembly.a, assembly.b, assembly.matching
    if matching.features.anchored:
        # Their own weights tell the layers apart.
        return
    paired = {tensor.reference for _, tensor in alignment.tensors}
    groups: dict[object, list[int]] = {}
    for unit, partner in matching.pairs:
        head = a.head(unit)
        given = unit in matching.features.fixed.units.partners
        if given or not head.weights or not _reads_agreeing(a, unit, agreeing):
            continue
        key = (tuple(head.sources), tuple(b.head(partner).sources), repr(a.kinds[unit]))
        groups.setdefault(key, []).append(unit)
    for group in groups.values():
        for one, two in itertools.combinations(group, 2):
            partners = int(matching.partners[one]), int(matching.partners[two])
            same = matching.features.same_kind
            if not (same[one, partners[1]] and same[two, partners[0]]):
                continue
            if not any(_leads_astray(a, unit, paired, agreeing) for unit in (one, two)):
                continue
            changed = matching.copy()
            changed.partners[[one, two]] = partners[::-1]
            yield Assembly(changed, pair_weightless(changed), assembly.judgement).build()


def _reads_agreeing(skeleton: Skeleton, unit: int, agreeing: Collection[str]) -> bool:
    """Return whether a unit reads inputs of the model, or tensors that agree."""
    sources = [skeleton.parts[each] for each in skeleton.head(unit).sources if each >= 0]
    return all(part.is_port or part.output in agreeing for part in sources)


def _leads_astray(
    skeleton: Skeleton, unit: int, paired: Collection[str], agreeing: Collection[str]
) -> bool:
    """Return whether the first paired tensor on any way from a unit does not agree."""
    front, seen = [skeleton.units[unit].last], set[int]()
    while front:
        for reader in skeleton.canonical.readers[front.pop()]:
            tensor = skeleton.parts[reader].output
            if tensor in paired:
                if tensor not in agreeing:
                    return True
            elif reader not in seen:
                seen.add(reader)
                front.append(reader)
    return False
