"""The operations around a layer that one of two models has alone."""

from __future__ import annotations

from dataclasses import dataclass

from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.network import kinds
from parity.network.alignment import families
from parity.network.graph import Graph, Node


@dataclass(frozen=True)
class Chains:
    """The single activation that one model has before a layer and the other has not."""

    missing: Node | None = None
    """The reference's, which the subject lacks."""
    surplus: Node | None = None
    before: Node | None = None
    """The subject's operation that the missing activation would read."""
    others: tuple[Node, ...] = ()
    """Those of the layer's other inputs, one of which it may be instead."""
    is_other: bool = False
    """Whether the partner is an operation of another kind."""
    added: tuple[Node, ...] = ()
    """The subject's operations without a partner that lead to the layer, the nearest first."""

    @classmethod
    def of(cls, state: GraphState, subject: str, row: GraphRow, node: Node) -> Chains:
        alignment = state.alignments[subject]
        reference, graph = state.reference.graph, state.models[subject].graph
        missing = surplus = before = None
        place = 0
        for at, tensor in enumerate(reference.by_id[row.node].inputs):
            found = _walk(reference, tensor, set(alignment.unpaired_reference))[0]
            if missing is None and found is not None:
                missing, place = found, at
        ends = []
        for tensor in node.inputs:
            found, end = _walk(graph, tensor, set(alignment.unpaired_other))
            surplus = surplus or found
            ends.append(end)
        # The inputs of both have one order, where they are not a sum's.
        others = [each for each in (*ends[place:], *ends[:place]) if each is not None]
        before = others.pop(0) if others else None
        if missing is None:
            # The activation itself is the row, and the subject's partner is what it would read.
            own = reference.by_id[row.node]
            if is_activation(own) and not is_activation(node):
                missing, before, others = own, node, []
        # What moves values alone may be a part of the layer's own pair.
        paired = {each for pair in alignment.pairs for each in pair.other}
        added = _find_added(graph, node, paired - set(row.nodes.get(subject, ())))
        is_other = reference.by_id[row.node].kind != node.kind
        return cls(missing, surplus, before, tuple(others), is_other, added)


def _find_added(graph: Graph, node: Node, paired: set[str]) -> tuple[Node, ...]:
    """Return the operations of one input and no weight that one reads from, unpaired ones first."""
    found: dict[str, Node] = {}
    waiting = list(node.inputs)
    while waiting and len(found) < _MAX_ADDED:
        producer = graph.producers.get(waiting.pop(0))
        if producer is None or producer.id in found:
            continue
        if len(producer.inputs) == 1 and not producer.parameters:
            found[producer.id] = producer
            waiting += producer.inputs
    # One that is part of a pair, as a factor behind a convolution, may be added too.
    return tuple(sorted(found.values(), key=lambda each: each.id in paired))


_MAX_ADDED = 4


def _walk(graph: Graph, tensor: str, unpaired: set[str]) -> tuple[Node | None, Node | None]:
    """Return an unpaired activation that makes a tensor, and the operation before or in its place.

    Operations that move no value are passed.
    """
    producer = graph.producers.get(tensor)
    while producer is not None and families.is_pass_through(producer) and producer.inputs:
        producer = graph.producers.get(producer.inputs[0])
    if producer is not None and producer.id in unpaired and is_activation(producer):
        return producer, graph.producers.get(producer.inputs[0])
    return None, producer


def is_activation(node: Node) -> bool:
    kind = kinds.find(node.kind)
    return kind is not None and (kind.activation or kind.family == "activation")
