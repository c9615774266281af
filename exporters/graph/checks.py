"""Checks that a model can be exported: its opset, its names and its operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import onnx
from onnx import GraphProto, NodeProto

from exporters.errors import ExportError, first_few
from exporters.graph.edits import all_nodes

OLDEST_OPSET = 17

ML = "ai.onnx.ml"
"""The domain of look-up tables, which ONNX Runtime knows too."""


def check_opset(opset: int) -> None:
    """Raise ExportError unless these exporters write `opset`."""
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ExportError(f"opset {opset}: this version writes {OLDEST_OPSET} to {newest}")


def check_names(
    *, weights: Sequence[str], inputs: Sequence[str], outputs: Sequence[str], taps: Iterable[str]
) -> None:
    """Raise ExportError if two tensors would have one name."""
    count = Counter((*weights, *inputs, *outputs))
    count.update(tap for tap in taps if tap not in outputs)
    twice = sorted(name for name, times in count.items() if times > 1)
    if twice:
        raise ExportError(f"two tensors would be called {twice[0]!r}: give one another name")


def foreign_nodes(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that ONNX has no operator for."""
    return [
        node
        for node in all_nodes(graph)
        if node.domain not in ("", "ai.onnx", ML) or not onnx.defs.has(node.op_type, node.domain)
    ]


def check_operators(graph: GraphProto, *, framework: str) -> None:
    """Raise ExportError naming the first nodes that ONNX has no operator for."""
    foreign = [f"{node.op_type} ({node.name or node.output[0]})" for node in foreign_nodes(graph)]
    if foreign:
        raise ExportError(
            f"{framework} operators that could not be converted: {first_few(foreign)}"
        )
