"""The comparison points of aligned graphs, and the rounding that belongs to each."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from parity.comparison.graphs.layout import channels_first
from parity.network import kinds
from parity.network.alignment import Alignment, find_cuts, infer_axes
from parity.network.graph import Graph, Node
from parity.network.graph_weights import count_sum_terms
from parity.network.rearrangement import Rearrangement
from parity.network.table import Depth
from parity.numerics.points import ComparisonPoint
from parity.processes.graph_requests import TensorPoint


@dataclass(frozen=True)
class GraphRow:
    """One operation of the reference, and its counterparts.

    `tensors` has the tensor by subject, with the rearrangements that give it the axes of the
    comparison: those of the reference, channels first. `nodes` are the operations by subject.
    """

    name: str
    stage: str
    block: str
    kind: str
    node: str
    shape: tuple[int, ...]
    """Of the tensor with the axes of the comparison, batch included."""
    tensors: Mapping[str, TensorPoint] = field(default_factory=dict)
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    confidence: str = "sure"


@dataclass(frozen=True)
class GraphTable:
    """The rows in the reference's execution order; `outputs` are those of the model's outputs."""

    rows: tuple[GraphRow, ...]
    outputs: frozenset[str]

    def select(self, depth: Depth, subjects: Collection[str]) -> list[GraphRow]:
        """Return the rows at a depth that every subject has; the outputs are always among them."""
        common = [row for row in self.rows if all(name in row.tensors for name in subjects)]
        if depth == "layer":
            return common
        last: dict[str, GraphRow] = {}
        for row in common:
            key = row.stage if depth == "stage" else row.block
            last.pop(key, None)
            last[key] = row
        kept = {row.name for row in last.values()} | self.outputs
        return [row for row in common if row.name in kept]

    def points(self, depth: Depth, subjects: Collection[str]) -> list[ComparisonPoint]:
        """Return the comparison points at a depth, in execution order."""
        selected = self.select(depth, subjects)
        found: list[ComparisonPoint] = []
        keys = [{"stage": r.stage, "block": r.block, "layer": r.name}[depth] for r in selected]
        for row, key in zip(selected, keys, strict=True):
            name = key if keys.count(key) == 1 else row.name
            found.append(ComparisonPoint(name, row.stage, row.name, row.shape[1:]))
        return found

    def by_name(self, name: str) -> GraphRow:
        """Return the row called `name`."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, GraphRow]:
        return {row.name: row for row in self.rows}

    def in_stages(
        self, stages: Collection[str], subjects: Collection[str]
    ) -> list[ComparisonPoint]:
        """Return the layers of `stages`, and the ends of the others, which isolation feeds."""
        ends = {point.row for point in self.points("stage", subjects)}
        return [
            point
            for point in self.points("layer", subjects)
            if point.stage in stages or point.row in ends
        ]


def build_table(
    graph: Graph,
    alignments: Mapping[str, Alignment],
    *,
    reference: str,
    graphs: Mapping[str, Graph] | None = None,
) -> GraphTable:
    """Return the rows of a reference's graph; `alignments` and `graphs` are by subject.

    The outputs of the models are always compared: where the operations that make them are no pair,
    the outputs have a row of their own.
    """
    axes = infer_axes(graph)
    cuts = find_cuts(graph)
    pairs: dict[str, dict[str, tuple[TensorPoint, tuple[str, ...], str]]] = {}
    for subject, alignment in alignments.items():
        for pair in alignment.pairs:
            for both in pair.tensors:
                point = TensorPoint("", both.other, (both.rearrangement,))
                found = pairs.setdefault(both.reference, {})
                found[subject] = (point, pair.other, pair.confidence.value)
    output_tensors = {port.tensor for port in graph.outputs}
    rows, names = [], set[str]()
    outputs = set[str]()
    for node in graph.nodes:
        tensor = node.outputs[0] if node.outputs else ""
        partners = pairs.get(tensor, {})
        if not partners and alignments:
            continue
        name = _unique(node.path or node.source or node.operation, node, names)
        own = graph.tensors[tensor].shape
        first = channels_first(axes.get(tensor, ""))
        stage, block = cuts.places[node.id]
        tensors = {
            subject: TensorPoint(
                name, point.tensor, (*_drop_identity(point.rearrangements), *first)
            )
            for subject, (point, _, _) in partners.items()
        }
        tensors[reference] = TensorPoint(name, tensor, first)
        confidences = [confidence for _, _, confidence in partners.values()]
        rows.append(
            GraphRow(
                name=name,
                stage=stage,
                block=block,
                kind=node.kind,
                node=node.id,
                shape=first[0].infer_shape(own) if first else own,
                tensors=tensors,
                nodes={subject: nodes for subject, (_, nodes, _) in partners.items()},
                confidence="sure" if set(confidences) <= {"sure"} else "ambiguous",
            )
        )
        if tensor in output_tensors:
            outputs.add(name)
    for row in _output_rows(graph, alignments, graphs or {}, reference, rows, names):
        order = {node.id: at for at, node in enumerate(graph.nodes)}
        place = sum(order[each.node] <= order[row.node] for each in rows)
        stage, block = cuts.places[row.node]
        rows.insert(place, replace(row, stage=stage, block=block))
        outputs.add(row.name)
    return GraphTable(tuple(rows), frozenset(outputs))


def _output_rows(
    graph: Graph,
    alignments: Mapping[str, Alignment],
    graphs: Mapping[str, Graph],
    reference: str,
    rows: Sequence[GraphRow],
    names: set[str],
) -> list[GraphRow]:
    """Return a row for each output of the reference that no row compares with the others'."""
    axes = infer_axes(graph)
    by_tensor = {row.tensors[reference].tensor: row for row in rows}
    found = []
    for port in graph.outputs:
        partners: dict[str, tuple[str, Rearrangement]] = {}
        for subject, alignment in alignments.items():
            tensors = {p.name: p.tensor for p in graphs[subject].outputs} if graphs else {}
            other = tensors.get(alignment.outputs.get(port.name, ""))
            if other is not None:
                rearrangement = alignment.output_rearrangements.get(port.name, Rearrangement())
                partners[subject] = (other, rearrangement)
        known = by_tensor.get(port.tensor)
        node = graph.producers.get(port.tensor)
        same = known is not None and all(
            subject in known.tensors and known.tensors[subject].tensor == tensor
            for subject, (tensor, _) in partners.items()
        )
        if not partners or same or node is None:
            continue
        name = _unique(f"{port.name}", node, names)
        first = channels_first(axes.get(port.tensor, ""))
        shape = graph.tensors[port.tensor].shape
        points = {
            subject: TensorPoint(name, tensor, (*_drop_identity((rearrangement,)), *first))
            for subject, (tensor, rearrangement) in partners.items()
        }
        makers = {s: graphs[s].producers.get(tensor) for s, (tensor, _) in partners.items()}
        found.append(
            GraphRow(
                name=name,
                stage="",
                block="",
                kind=node.kind,
                node=node.id,
                shape=first[0].infer_shape(shape) if first else shape,
                tensors={**points, reference: TensorPoint(name, port.tensor, first)},
                nodes={s: (maker.id,) for s, maker in makers.items() if maker is not None},
            )
        )
    return found


def _unique(text: str, node: Node, names: set[str]) -> str:
    """Return a name for a row that no other has, and remember it."""
    name = text.replace("/", ".")
    if name in names:
        name = f"{name}.{node.operation}"
    candidate, count = name, 1
    while candidate in names:
        count += 1
        candidate = f"{name}#{count}"
    names.add(candidate)
    return candidate


def _drop_identity(rearrangements: Sequence[Rearrangement]) -> tuple[Rearrangement, ...]:
    return tuple(each for each in rearrangements if not each.is_identity)


EXTRA = "tensor "
"""The prefix, in a capture, of a tensor that no row of the table has."""


def extra_points(graph: Graph, tensors: Iterable[str]) -> tuple[TensorPoint, ...]:
    """Return the points at which tensors that are no rows are captured."""
    axes = infer_axes(graph)
    return tuple(
        TensorPoint(f"{EXTRA}{tensor}", tensor, channels_first(axes.get(tensor, "")))
        for tensor in tensors
    )


@dataclass(frozen=True)
class Parts:
    """The parts of a network that end at some rows: the rows at their ends and before them, and the
    names of the weights inside."""

    rows: frozenset[str]
    weights: frozenset[str]


def find_parts(
    graph: Graph, points: Sequence[ComparisonPoint], rows: Collection[str], table: GraphTable
) -> Parts:
    """Return the parts that end at `rows` and begin behind the comparison points before them."""
    ends = {graph.by_id[table.by_name(point.row).node].outputs[0]: point.row for point in points}
    found, weights = set(rows), set[str]()
    for row in rows:
        waiting = [table.by_name(row).node]
        seen = set(waiting)
        while waiting:
            node = graph.by_id[waiting.pop()]
            weights |= {each.name for each in node.parameters}
            for tensor in node.inputs:
                producer = graph.producers.get(tensor)
                if tensor in ends:
                    found.add(ends[tensor])
                elif producer is not None and producer.id not in seen:
                    seen.add(producer.id)
                    waiting.append(producer.id)
    return Parts(frozenset(found), frozenset(weights))


def sum_terms(graph: Graph, *, repeated: bool = False) -> dict[str, float]:
    """Return the terms of the sum in each value of a node, by the node's id.

    Of `repeated` inputs, which have a few values many times, means and deviations sum equal terms:
    see `count_repeated_terms`.
    """
    return {node.id: _node_terms(graph, node, repeated) for node in graph.nodes}


def count_repeated_terms(terms: float) -> float:
    """Return the terms of random sign whose running sum errs as that of equal terms.

    Every addition of a number to a sum of equal ones rounds to one side, so that the error grows
    with the terms and not with their root. Of all numbers in [1, 2), the root mean square of the
    running sum's relative error in float32 is terms / 8 roundoffs (measured, 64 to 65,536 terms);
    at most `_MOST_ROUNDOFFS` are taken.
    """
    return max(terms, 6.0 * min(terms / 8.0, _MOST_ROUNDOFFS) ** 2)


_MOST_ROUNDOFFS = 1024.0
"""The most that the sum of repeated values may err: kernels sum long ones in blocks, and beyond it
rounding could not be told from another ε."""


def _node_terms(graph: Graph, node: Node, repeated: bool) -> float:
    averaged = count_repeated_terms if repeated else float
    kernels = [each for each in node.parameters if len(each.shape) >= 2 and each.role]
    terms = [count_sum_terms(node, each) for each in kernels]
    if _averages(node):
        inputs = [graph.tensors[tensor] for tensor in node.inputs[:1]]
        outputs = [graph.tensors[tensor] for tensor in node.outputs[:1]]
        for before, after in zip(inputs, outputs, strict=False):
            mean = math.prod(before.shape) / max(math.prod(after.shape), 1)
            terms.append(averaged(mean))
    statistics = _count_statistics_terms(graph, node)
    # A deviation has half the relative error of its sum of squares, which are positive: that of
    # their running sum is √terms / 3 roundoffs, where terms of random sign have √(terms / 6).
    terms.append(averaged(statistics) if repeated else statistics / 6.0)
    if node.kind in ("matmul", "attention", "einsum") and node.inputs:
        terms.append(float(max(graph.tensors[node.inputs[0]].shape, default=1)))
    return max([1.0, *terms])


def _count_statistics_terms(graph: Graph, node: Node) -> float:
    """Return the values of one mean with which a node normalises; 1 where it does not."""
    kind = kinds.find(node.kind)
    if kind is None or not kind.statistics_over or not node.inputs:
        return 1.0
    shape = graph.tensors[node.inputs[0]].shape
    if len(shape) < 2:
        return 1.0
    if kind.statistics_over == "groups":
        return math.prod(shape[1:]) / max(int(node.hyper.get("groups") or 1), 1)
    learned = max((math.prod(each.shape) for each in node.parameters), default=0)
    if kind.statistics_over == "channels":
        return math.prod(shape[1:]) / max(learned or shape[1], 1)
    axes = [int(axis) for axis in node.hyper.get("axes") or ()]
    if axes and all(-len(shape) <= axis < len(shape) for axis in axes):
        return float(math.prod(shape[axis] for axis in axes))
    return float(learned or shape[-1])


def _averages(node: Node) -> bool:
    kind = kinds.find(node.kind)
    return kind is not None and (kind.averages or node.kind in ("mean", "reduce_mean", "avg_pool"))


def accumulated_terms(
    graph: Graph, table: GraphTable, *, repeated: bool = False
) -> dict[str, float]:
    """Return, by row, the terms of the one sum whose rounding error equals the row's.

    A sum's squared error is proportional to its terms. Later layers propagate it, relative to
    their values; a mean of n values divides it by n, for independent errors.
    """
    own = sum_terms(graph, repeated=repeated)
    found: dict[str, float] = {port.tensor: 1.0 for port in graph.inputs}
    for node in graph.nodes:
        before = max((found.get(tensor, 1.0) for tensor in node.inputs), default=1.0)
        # The errors of equal values are equal, and no mean takes them away.
        if _averages(node) and not repeated:
            before /= own[node.id]
        for tensor in node.outputs:
            found[tensor] = max(own[node.id], before)
    by_id = graph.by_id
    return {row.name: found[by_id[row.node].outputs[0]] for row in table.rows}


def isolated_terms(
    graph: Graph,
    points: Sequence[ComparisonPoint],
    table: GraphTable,
    *,
    repeated: bool = False,
) -> dict[str, float]:
    """Return, by row, the terms of the longest sum in the part of the network before it.

    A part begins behind the comparison point before.
    """
    own = sum_terms(graph, repeated=repeated)
    ends: dict[str, list[str]] = {}
    for point in points:
        ends.setdefault(table.by_name(point.row).node, []).append(point.row)
    found, longest = {}, 1.0
    for node in graph.nodes:
        longest = max(longest, own[node.id])
        if node.id in ends:
            found.update(dict.fromkeys(ends[node.id], longest))
            longest = 1.0
    return found
