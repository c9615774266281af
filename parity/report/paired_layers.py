"""The operations of compared models in one list, with which of them are a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parity.comparison.graphs.structure import locate
from parity.network.alignment import Alignment
from parity.network.graph import Graph, Node
from parity.report.model import PairedLayer
from parity.report.table_layers import merge_places

MAX_LAYERS = 5000
"""The list of a larger model ends there."""


@dataclass
class _Row:
    """A row while the list is built: the ids of its operations, by model."""

    node: Node
    graph: Graph
    nodes: dict[str, tuple[str, ...]]
    confidence: dict[str, str] = field(default_factory=dict)


def list_paired_layers(
    reference: str,
    graphs: Mapping[str, Graph],
    alignments: Mapping[str, Alignment],
    *,
    points: Mapping[str, str],
) -> tuple[PairedLayer, ...]:
    """Return the operations of the reference, in execution order, with those of the other models.

    `graphs` are by model, `alignments` from the reference to each other model. An operation of
    another model that has no partner follows the one before it there. Operations that change a
    shape alone and are no pair are left out: what reads them reads what they read. `points` are
    the comparison points by the reference's operation.
    """
    rows = _list_reference_rows(reference, graphs[reference], alignments)
    for name, alignment in alignments.items():
        if name in graphs:
            rows = _insert_unpaired(rows, name, graphs[name], alignment)
    rows = rows[:MAX_LAYERS]
    inputs = {name: _find_inputs(rows, name, graph) for name, graph in graphs.items()}
    return tuple(
        PairedLayer(
            kind=row.node.kind if row.node.kind != "opaque" else row.node.operation,
            shape=_output_shape(row),
            places={
                name: _describe_places(graphs[name], ids)
                for name, ids in row.nodes.items()
                if name in graphs
            },
            inputs={name: found[at] for name, found in inputs.items() if found[at]},
            confidence=row.confidence,
            point=points.get(row.node.id, "") if reference in row.nodes else "",
        )
        for at, row in enumerate(rows)
    )


def _list_reference_rows(
    reference: str, graph: Graph, alignments: Mapping[str, Alignment]
) -> list[_Row]:
    partners: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {}
    for name, alignment in alignments.items():
        for pair in alignment.pairs:
            for each in pair.reference:
                partners.setdefault(each, {})[name] = (pair.other, pair.confidence.value)
    unpaired = {each for alignment in alignments.values() for each in alignment.unpaired_reference}
    rows = []
    for node in graph.nodes:
        found = partners.get(node.id, {})
        if found or node.id in unpaired or not alignments:
            nodes = {reference: (node.id,), **{name: ids for name, (ids, _) in found.items()}}
            rows.append(_Row(node, graph, nodes, {name: sure for name, (_, sure) in found.items()}))
    return rows


def _insert_unpaired(
    rows: Sequence[_Row], name: str, graph: Graph, alignment: Alignment
) -> list[_Row]:
    """Return the rows with those operations of a model that have no partner, in its order."""
    place = {each: at for at, row in enumerate(rows) for each in row.nodes.get(name, ())}
    behind: dict[int, list[_Row]] = {}
    unpaired, last = set(alignment.unpaired_other), -1
    for node in graph.nodes:
        last = place.get(node.id, last)
        if node.id in unpaired:
            behind.setdefault(last, []).append(_Row(node, graph, {name: (node.id,)}))
    found = behind.get(-1, [])
    for at, row in enumerate(rows):
        found += [row, *behind.get(at, ())]
    return found


def _find_inputs(rows: Sequence[_Row], name: str, graph: Graph) -> list[tuple[int, ...]]:
    """Return, for each row, the rows whose outputs its operations in a model read."""
    place: dict[str, int] = {}
    for at, row in enumerate(rows):
        for each in row.nodes.get(name, ()):
            place.setdefault(each, at)
    # By node, the rows that its output comes from: its own, or through nodes without one.
    sources: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        before = merge_places(sources[p.id] for p in _producers(graph, node) if p.id in sources)
        sources[node.id] = (place[node.id],) if node.id in place else before
    found = []
    for at, row in enumerate(rows):
        nodes = [graph.by_id[each] for each in row.nodes.get(name, ()) if each in graph.by_id]
        read = merge_places(
            sources[producer.id]
            for node in nodes
            for producer in _producers(graph, node)
            if producer.id in sources
        )
        found.append(tuple(each for each in read if each != at))
    return found


def _producers(graph: Graph, node: Node) -> list[Node]:
    return [graph.producers[tensor] for tensor in node.inputs if tensor in graph.producers]


def _output_shape(row: _Row) -> tuple[int, ...]:
    outputs = row.node.outputs
    return tuple(row.graph.tensors[outputs[0]].shape) if outputs else ()


def _describe_places(graph: Graph, nodes: Sequence[str]) -> str:
    """Return where operations are written, each once."""
    places = [locate(graph.by_id[each]) for each in nodes if each in graph.by_id]
    return " + ".join(dict.fromkeys(places))
