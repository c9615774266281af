"""The alignment of two graphs by their structure, and by their weights where those are equal."""

from __future__ import annotations

from parity.errors import AlignmentError
from parity.network.alignment.ambiguity import judge
from parity.network.alignment.assembly import Assembly
from parity.network.alignment.canonical import canonicalise, find_packed
from parity.network.alignment.matching import Features, match
from parity.network.alignment.result import Alignment
from parity.network.alignment.skeleton import Skeleton
from parity.network.alignment.weightless import pair_weightless
from parity.network.graph import Graph


def align(reference: Graph, other: Graph) -> Alignment:
    """Return which nodes, tensors and weights of two graphs are the same.

    Raises `AlignmentError` if no node of the reference has a partner.
    """
    shared = {port.name for port in (*reference.inputs, *reference.outputs)}
    shared &= {port.name for port in (*other.inputs, *other.outputs)}
    # Where both pack query, key and value alike, the packed products are partners as they are.
    split_packed = len(find_packed(reference)) != len(find_packed(other))
    left, right = (
        Skeleton(canonicalise(graph, split_packed=split_packed), port_names=frozenset(shared))
        for graph in (reference, other)
    )
    matching = match(Features(left, right))
    alignment = Assembly(matching, pair_weightless(matching), judge(matching)).build()
    if not alignment.pairs:
        raise AlignmentError(
            "no layer of A has a partner in B: "
            f"A is {_describe(reference)}, B is {_describe(other)}"
        )
    return alignment


def _describe(graph: Graph) -> str:
    """Return the framework, the number of operations and the most frequent kinds."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        counts[node.kind] = counts.get(node.kind, 0) + 1
    frequent = sorted(counts, key=lambda kind: (-counts[kind], kind))[:3]
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in frequent) or "empty"
    return f"a {graph.framework} model of {len(graph.nodes)} operations ({kinds})"
