"""What is refused: opsets, clashing names, operators that ONNX does not have."""

from __future__ import annotations

import pytest
from onnx import helper

from exporters.errors import ExportError
from exporters.graph import checks
from tests.exporters.conftest import info, model_of


def test_foreign_operators_are_named_inside_subgraphs_too():
    inner = helper.make_graph(
        [helper.make_node("StatefulPartitionedCall", ["x"], ["o"], name="deep")],
        "then",
        [],
        [info("o", 2, 3)],
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    graph = model_of(nodes, [info("x", 2, 3)], [info("y", 2, 3)]).graph
    with pytest.raises(ExportError, match=r"StatefulPartitionedCall \(deep\)"):
        checks.check_operators(graph, framework="TensorFlow")


def test_the_opset_that_an_operator_is_of_is_known_inside_subgraphs_too():
    inner = helper.make_graph([helper.make_node("BitwiseXor", ["x", "x"], ["o"])], "then", [], [])
    nodes = [
        helper.make_node("Add", ["x", "x"], ["z"]),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    graph = model_of(nodes, [info("x", 2, 3)], [info("y", 2, 3)]).graph
    assert [(node.op_type, opset) for node, opset in checks.newer_nodes(graph, 17)] == [
        ("BitwiseXor", 18),
        ("BitwiseXor", 18),
    ]
    assert not checks.newer_nodes(graph, 18)


@pytest.mark.parametrize("opset", [16, 10_000, 0, -1])
def test_opsets_out_of_range_are_refused(opset):
    with pytest.raises(ExportError, match=f"opset {opset}: this version writes 17 to"):
        checks.check_opset(opset)


def test_clashing_names_are_refused():
    with pytest.raises(ExportError, match="'x'"):
        checks.check_names(weights=["x"], inputs=["x"], outputs=["y"], taps=[])
    checks.check_names(weights=["w"], inputs=["x"], outputs=["y"], taps=["y"])
