"""The alignment of two graphs by their structure, and by their weights where those are equal."""

from __future__ import annotations

from collections.abc import Sequence

from parity.errors import AlignmentError
from parity.network.alignment.ambiguity import judge
from parity.network.alignment.anchors import hold_equal
from parity.network.alignment.assembly import Assembly
from parity.network.alignment.canonical import Part, canonicalise, find_packed
from parity.network.alignment.given import GivenPair, fix_partners
from parity.network.alignment.matching import Features, Matching, match
from parity.network.alignment.result import Alignment
from parity.network.alignment.skeleton import Skeleton
from parity.network.alignment.weightless import pair_weightless
from parity.network.graph import Graph


def align(
    reference: Graph,
    other: Graph,
    *,
    names: tuple[str, str] = ("A", "B"),
    given: Sequence[GivenPair] = (),
) -> Alignment:
    """Return which nodes, tensors and weights of two graphs are the same.

    Pairs that are `given` are kept, and the rest is derived. Raises `AlignmentError`, with the
    `names` of the two, if no node of the reference has a partner, and for given pairs that
    contradict one another.
    """
    shared = {port.name for port in (*reference.inputs, *reference.outputs)}
    shared &= {port.name for port in (*other.inputs, *other.outputs)}
    # Where both pack query, key and value alike, the packed products are partners as they are.
    split_packed = len(find_packed(reference)) != len(find_packed(other))
    left, right = (
        Skeleton(canonicalise(graph, split_packed=split_packed), port_names=frozenset(shared))
        for graph in (reference, other)
    )
    matching = match(Features(left, right, fix_partners(left, right, given)))
    alone = _find_tails(matching)
    if any(alone):
        # A norm behind a convolution without a partner is that of another operation.
        left, right = (
            Skeleton(each.canonical, port_names=frozenset(shared), alone=heads)
            for each, heads in zip((left, right), alone, strict=True)
        )
        matching = match(Features(left, right, fix_partners(left, right, given)))
    alignment = Assembly(matching, pair_weightless(matching), judge(matching)).build()
    if not alignment.pairs:
        raise AlignmentError(
            f"no layer of {names[0]} has a partner in {names[1]}: "
            f"{names[0]} is {_describe(reference)}, {names[1]} is {_describe(other)}"
        )
    return alignment


def _find_tails(matching: Matching) -> tuple[frozenset[int], frozenset[int]]:
    """Return the heads of both skeletons' units whose tail may have a partner of its own.

    That is a unit of its own in the other skeleton, of the same kind and size, without a partner.
    The tail's own unit has no partner; or its tail holds the same values as that unit, and another
    operation is between the convolution and its norm there.
    """
    left, right = matching.features.reference, matching.features.other
    free = (
        [unit for unit, partner in enumerate(matching.partners) if partner < 0],
        [unit for unit, partner in enumerate(matching.inverse) if partner < 0],
    )
    heads = (
        [left.head(unit) for unit in free[0]],
        [right.head(unit) for unit in free[1]],
    )
    return (
        _find_heads(left, matching.partners.tolist(), heads[1]),
        _find_heads(right, matching.inverse.tolist(), heads[0]),
    )


def _find_heads(
    skeleton: Skeleton, partners: Sequence[int], wanted: Sequence[Part]
) -> frozenset[int]:
    described = {_describe_part(part) for part in wanted}
    found = set()
    for unit, partner in zip(skeleton.units, partners, strict=True):
        for part in (skeleton.parts[each] for each in unit.tail):
            if _describe_part(part) not in described:
                continue
            if partner < 0 or any(hold_equal(part, other) for other in wanted):
                found.add(unit.head)
    return frozenset(found)


def _describe_part(part: Part) -> tuple[str, tuple[int, ...]]:
    """Return the kind of a part and the lengths of its main weight, to be compared."""
    main = part.main
    return part.kind, () if main is None else tuple(n for n in main.shape if n != 1)


def _describe(graph: Graph) -> str:
    """Return the framework, the number of operations and the most frequent kinds."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        counts[node.kind] = counts.get(node.kind, 0) + 1
    frequent = sorted(counts, key=lambda kind: (-counts[kind], kind))[:3]
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in frequent) or "empty"
    return f"a {graph.framework} model of {len(graph.nodes)} operations ({kinds})"
