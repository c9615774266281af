"""Weights that the alignment could not copy, where the difference of two models begins."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import main_node
from parity.comparison.results import KEPT, NOT_COPIED
from parity.network.alignment import Alignment, families
from parity.network.graph import Graph, Node
from parity.numerics.verdict import FirstDivergence

_SHOWN = 3
"""As many names of weights are listed."""


def describe_uncopied(
    state: GraphState,
    divergences: Sequence[FirstDivergence],
    explained: Collection[tuple[str, str]] = (),
) -> list[str]:
    """Return a sentence for each subject whose difference may be that of weights never copied.

    Both models then have weights without a partner, which keep their values, and the difference
    begins at a layer that reads one, or what is computed with one. `divergences` are in execution
    order; `explained` are the subjects and layers whose difference has a cause.
    """
    lines = []
    base = state.reference.subject.name
    for name, alignment in state.alignments.items():
        first = next((each for each in divergences if each.subject == name), None)
        model = state.models.get(name)
        direction = _find_direction(state.notes, {base, name})
        if first is None or model is None or direction is None:
            continue
        if (name, first.layer) in explained:
            continue
        missing, surplus = _list_unpaired(state, name, alignment)
        if missing and surplus and _begins_there(state, first, alignment, (missing, surplus)):
            source, target = direction
            lost = missing if source == base else surplus
            verb = "weight" if len(lost) == 1 else "weights"
            lines.append(
                f"{len(lost)} {verb} of {source} {'was' if len(lost) == 1 else 'were'}{NOT_COPIED}"
                f"{target} ({_list(lost)}), and the difference begins where they are read"
            )
    return lines


def _find_direction(notes: Sequence[str], names: Collection[str]) -> tuple[str, str] | None:
    """Return which of two models the weights of the other were copied into, source first.

    None if none was, or all weights have partners: the copy has left a note otherwise.
    """
    for note in notes:
        before, found, behind = note.partition(KEPT)
        target, source = before.partition(": ")[0], behind.partition(" ")[0]
        if found and {target, source} == set(names):
            return source, target
    return None


def _list_unpaired(
    state: GraphState, name: str, alignment: Alignment
) -> tuple[list[str], list[str]]:
    """Return the names of the weights of both models without a partner that an operation reads."""
    graphs = state.reference.graph, state.models[name].graph
    known = alignment.missing_parameters, alignment.surplus_parameters
    found = []
    for graph, names in zip(graphs, known, strict=True):
        read = dict.fromkeys(each.name for node in graph.nodes for each in node.parameters)
        found.append([each for each in read if each in set(names)])
    return found[0], found[1]


def _begins_there(
    state: GraphState,
    first: FirstDivergence,
    alignment: Alignment,
    weights: tuple[Sequence[str], Sequence[str]],
) -> bool:
    """Return whether a difference begins where a weight without a partner is read.

    Where no layer differs by itself, what differs is a layer without a partner.
    """
    row = next((each for each in state.table.rows if each.name == first.layer), None)
    if row is None:
        return True
    graphs = state.reference.graph, state.models[first.subject].graph
    own = main_node(graphs[1], row.nodes.get(first.subject, ()))
    ends = graphs[0].by_id[row.node], own
    unpaired = alignment.unpaired_reference, alignment.unpaired_other
    return any(
        node is not None and _reads(graph, node, set(names), set(alone))
        for graph, node, names, alone in zip(graphs, ends, weights, unpaired, strict=True)
    )


def _reads(graph: Graph, end: Node, weights: set[str], unpaired: set[str]) -> bool:
    """Return whether a node reads one of the weights, or an unpaired node before it does."""
    waiting, seen = [end], {end.id}
    while waiting:
        node = waiting.pop()
        if any(each.name in weights for each in node.parameters):
            return True
        for tensor in node.inputs:
            maker = graph.producers.get(tensor)
            if maker is None or maker.id in seen:
                continue
            if maker.id in unpaired or families.is_pass_through(maker):
                seen.add(maker.id)
                waiting.append(maker)
    return False


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
