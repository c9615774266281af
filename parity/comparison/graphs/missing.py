"""Operations that the reference has and a subject lacks, where what reads them fails."""

from __future__ import annotations

from dataclasses import dataclass

from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import main_node
from parity.network.alignment import families
from parity.network.graph import Node


@dataclass(frozen=True)
class MissingOperation:
    """An operation of the reference without a partner, and the subject's operation before it.

    What reads the operation in the reference reads the result of `before` in the subject.
    """

    node: Node
    before: Node


def find_missing_operation(
    state: GraphState, subject: str, row: GraphRow
) -> MissingOperation | None:
    """Return the operation without weights that a row reads and the subject has not, or None.

    It has one input, whose partner in the subject is known: an activation, for example.
    """
    alignment = state.alignments.get(subject)
    if alignment is None or subject not in state.models:
        return None
    graph, unpaired = state.reference.graph, set(alignment.unpaired_reference)
    for tensor in graph.by_id[row.node].inputs:
        node = graph.producers.get(tensor)
        while node is not None and len(node.inputs) == 1 and _keeps_values(node):
            node = graph.producers.get(node.inputs[0])
        if node is None or node.id not in unpaired or node.parameters or len(node.inputs) != 1:
            continue
        for pair, both in alignment.tensors:
            if both.reference == node.inputs[0]:
                before = state.models[subject].graph.producers.get(both.other)
                before = before or main_node(state.models[subject].graph, pair.other)
                return None if before is None else MissingOperation(node, before)
    return None


def _keeps_values(node: Node) -> bool:
    """Return whether an operation gives the values that it reads, zeros beside them or not."""
    return node.kind == "pad" or families.is_pass_through(node)
