"""Layers that a subject computes with integers where the reference computes with floats."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import locate, main_node
from parity.explain.cause import Cause
from parity.network.graph import Graph, Node
from parity.numerics.verdict import PointResult
from parity.text import format_ratio

QUANTISED = "quantised"
QUANTISED_REMEDY = "compare the quantised file with itself or in another runtime"


def is_quantised(state: GraphState, subject: str, result: PointResult) -> bool:
    """Return whether only the subject computes with integers, there or in what leads there."""
    row = state.table.by_name(result.row)
    own = main_node(state.models[subject].graph, row.nodes.get(subject, ()))
    reference = state.reference.graph.by_id[row.node]
    if own is None or reference.hyper.get("quantized"):
        return False
    paired = {node for pair in state.alignments[subject].pairs for node in pair.other}
    return has_quantised(state.models[subject].graph, own, paired)


def has_quantised(graph: Graph, node: Node, paired: Collection[str]) -> bool:
    """Return whether an operation, or one without a partner that leads to it, has integers."""
    if _is_quantised_node(node):
        return True
    waiting, seen = list(node.inputs), set[str]()
    while waiting:
        before = graph.producers.get(waiting.pop())
        if before is None or before.id in seen or before.id in paired:
            continue
        if _is_quantised_node(before):
            return True
        seen.add(before.id)
        waiting += before.inputs
    return False


def _is_quantised_node(node: Node) -> bool:
    """Return whether an operation has integers: `DynamicQuantizeLSTM`, `DequantizeLinear`."""
    return bool(node.hyper.get("quantized")) or "quantize" in node.operation.lower()


def describe_quantised(
    state: GraphState, failures: Sequence[tuple[str, PointResult]]
) -> tuple[Cause, ...]:
    """Return one cause for all quantised operations of a subject."""
    by_subject: dict[str, list[PointResult]] = {}
    for subject, result in failures:
        by_subject.setdefault(subject, []).append(result)
    causes = []
    for subject, results in by_subject.items():
        row = state.table.by_name(results[0].row)
        own = main_node(state.models[subject].graph, row.nodes[subject])
        assert own is not None
        count = len(results)
        layers = "1 layer computes" if count == 1 else f"{count} layers compute"
        worst = max(max(r.subjects[subject].x_floor, r.subjects[subject].x_floor_max)
                    for r in results)  # fmt: skip
        causes.append(
            Cause(
                row.name,
                subject,
                QUANTISED,
                {"x_floor_before": worst, "layers": float(count)},
                f"{QUANTISED}: {layers} with integers, the first is {own.operation} "
                f"`{locate(own)}` (up to {format_ratio(worst)} the floor); a quantised model is "
                f"not the float one. Remedy: {QUANTISED_REMEDY}",
                QUANTISED_REMEDY,
            )
        )
    return tuple(causes)
