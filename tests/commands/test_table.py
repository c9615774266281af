"""`parity table` of any model: the rows of its operations."""

from __future__ import annotations

from parity.commands.align import describe_graph
from parity.network.graph import Graph, Node, Port, Tensor


def test_the_inputs_of_a_join_are_named_and_many_equal_ones_counted():
    shapes = {"x": (1, 2, 2, 8), "y": (1, 2, 2, 4)}
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    nodes = [
        Node("a", "add", "add", ("x", "x"), ("a",)),
        Node("b", "concat", "concat", ("y", *["x"] * 32, "y"), ("b",)),
        Node("c", "relu", "relu", ("x",), ("c",)),
    ]
    tensors |= {node.id: Tensor(node.id, (1, 2, 2, 8), "float32") for node in nodes}
    graph = Graph("keras", tuple(nodes), tensors, (Port("x", "x"),), (Port("b", "b"),))
    assert [row["inputs"] for row in describe_graph(graph)] == [
        "1×2×2×8 1×2×2×8",
        "1×2×2×4 1×2×2×8 (32 times) 1×2×2×4",
        "",
    ]
