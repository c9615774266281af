"""A quantised operation is the cause where it leads to what differs."""

from __future__ import annotations

import pytest

from parity.explain.quantised_layers import has_quantised
from parity.network.graph import Graph, Node, Port, Tensor


def build_graph(operation: str) -> Graph:
    """Return a graph of three operations, of which the one in the middle is `operation`."""
    nodes = (
        Node("a", "embedding", "Gather", ("x",), ("a",)),
        Node("b", "opaque", operation, ("a",), ("b",)),
        Node("c", "layer_norm", "LayerNormalization", ("b",), ("c",)),
    )
    tensors = {name: Tensor(name, (1, 4), "float32") for name in "xabc"}
    return Graph("onnx", nodes, tensors, (Port("x", "x"),), (Port("y", "c"),))


def test_an_operation_with_integers_of_its_own_is_seen():
    graph = build_graph("DynamicQuantizeLSTM")
    assert has_quantised(graph, graph.by_id["b"], {"a", "b", "c"})


@pytest.mark.parametrize(
    ("operation", "paired", "wanted"),
    [
        ("DequantizeLinear", {"a", "c"}, True),
        ("Identity", {"a", "c"}, False),
        # What has a partner is judged by itself.
        ("DequantizeLinear", {"a", "b", "c"}, False),
    ],
)
def test_integers_before_a_layer_are_seen(operation, paired, wanted):
    graph = build_graph(operation)
    assert has_quantised(graph, graph.by_id["c"], paired) is wanted
