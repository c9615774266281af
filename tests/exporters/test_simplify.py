"""Folding, renaming and refusing, on graphs written out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from exporters import simplify
from exporters.errors import ExportError
from exporters.taps import by_layer
from tests.exporters.conftest import info, model_of

X = {"x": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)}


def test_constants_are_folded_and_identities_dropped():
    nodes = [
        helper.make_node("Add", ["a", "a"], ["b"]),
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Mul", ["i", "b"], ["m"]),
        helper.make_node("Dropout", ["m"], ["d"]),
        helper.make_node("Identity", ["d"], ["y"]),
    ]
    model = model_of(nodes, [info("x", 2, 3)], [info("y", 2, 3)], {"a": np.float32(2)})
    simplify.simplify(model.graph, opset=17)
    assert [node.op_type for node in model.graph.node] == ["Mul"]
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, X)[0], X["x"] * 4)


def test_random_numbers_are_not_constants():
    nodes = [
        helper.make_node("RandomNormal", [], ["n"], shape=[2, 3]),
        helper.make_node("Add", ["x", "n"], ["y"]),
    ]
    model = model_of(nodes, [info("x", 2, 3)], [info("y", 2, 3)])
    simplify.simplify(model.graph, opset=17)
    assert len(model.graph.node) == 2


def test_a_reshape_with_one_free_size_needs_no_arithmetic():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "rest": np.array([3, 1])}
    model = model_of(nodes, [info("x", "batch", 3)], [info("y", "batch", 3, 1)], constants)
    model = simplify.infer_shapes(model)
    simplify.fold_shapes(model)
    simplify.simplify(model.graph, opset=17)
    assert [node.op_type for node in model.graph.node] == ["Reshape"]
    assert ReferenceEvaluator(model).run(None, X)[0].shape == (2, 3, 1)


def test_one_tensor_may_have_several_output_names_and_names_inside_give_way():
    nodes = [helper.make_node("Relu", ["x"], ["b"]), helper.make_node("Relu", ["b"], ["a"])]
    model = model_of(nodes, [info("x", 2, 3)], [info("a", 2, 3), info("a2", 2, 3)])
    model.graph.output[1].name = "a"
    simplify.name_tensors(model.graph, inputs={"x": "b"}, outputs=["a", "tap"])
    simplify.simplify(model.graph, opset=17)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == ["a", "tap"]
    assert [value.name for value in model.graph.input] == ["b"]
    first, second = ReferenceEvaluator(model).run(None, {"b": X["x"]})
    np.testing.assert_array_equal(first, second)


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
        simplify.check_operators(graph, framework="TensorFlow")


@pytest.mark.parametrize("opset", [16, 10_000, 0, -1])
def test_opsets_out_of_range_are_refused(opset):
    with pytest.raises(ExportError, match=f"opset {opset}: this version writes 17 to"):
        simplify.check_opset(opset)


def test_clashing_names_are_refused():
    with pytest.raises(ExportError, match="'x'"):
        simplify.check_names(weights=["x"], inputs=["x"], outputs=["y"], taps=[])
    simplify.check_names(weights=["w"], inputs=["x"], outputs=["y"], taps=["y"])


def test_erfc_is_written_with_erf():
    nodes = [helper.make_node("Erfc", ["x"], ["y"])]
    model = model_of(nodes, [info("x", 2, 3)], [info("y", 2, 3)])
    simplify.lower_erfc(model.graph)
    simplify.check_operators(model.graph, framework="TensorFlow")
    from math import erfc

    (y,) = ReferenceEvaluator(model).run(None, X)
    np.testing.assert_allclose(y, np.vectorize(erfc)(X["x"]), rtol=1e-5)


def test_places_are_parsed():
    taps = by_layer({"a": "layer1.0.relu#2@input", "b": "layer1.0.relu", "c": "outer/inner@input"})
    assert [(t.name, t.call, t.of_input) for t in taps["layer1.0.relu"]] == [
        ("a", 2, True),
        ("b", 0, False),
    ]
    assert taps["outer/inner"][0].of_input
    for wrong in ("", "a#", "a#x", "a@output", "#1"):
        with pytest.raises(ExportError):
            by_layer({"t": wrong})
