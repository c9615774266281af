"""Folding, renaming and lowering, on graphs written out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from exporters.graph import checks, edits, simplification
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
    simplification.simplify(model.graph, opset=17)
    assert [node.op_type for node in model.graph.node] == ["Mul"]
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, X)[0], X["x"] * 4)


def test_random_numbers_are_not_constants():
    nodes = [
        helper.make_node("RandomNormal", [], ["n"], shape=[2, 3]),
        helper.make_node("Add", ["x", "n"], ["y"]),
    ]
    model = model_of(nodes, [info("x", 2, 3)], [info("y", 2, 3)])
    simplification.simplify(model.graph, opset=17)
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
    model = simplification.infer_shapes(model)
    simplification.fold_shapes(model)
    simplification.simplify(model.graph, opset=17)
    assert [node.op_type for node in model.graph.node] == ["Reshape"]
    assert ReferenceEvaluator(model).run(None, X)[0].shape == (2, 3, 1)


def test_one_tensor_may_have_several_output_names_and_names_inside_give_way():
    nodes = [helper.make_node("Relu", ["x"], ["b"]), helper.make_node("Relu", ["b"], ["a"])]
    model = model_of(nodes, [info("x", 2, 3)], [info("a", 2, 3), info("a2", 2, 3)])
    model.graph.output[1].name = "a"
    edits.rename_inputs_and_outputs(model.graph, inputs={"x": "b"}, outputs=["a", "tap"])
    simplification.simplify(model.graph, opset=17)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == ["a", "tap"]
    assert [value.name for value in model.graph.input] == ["b"]
    first, second = ReferenceEvaluator(model).run(None, {"b": X["x"]})
    np.testing.assert_array_equal(first, second)


def test_erfc_is_written_with_erf():
    nodes = [helper.make_node("Erfc", ["x"], ["y"])]
    model = model_of(nodes, [info("x", 2, 3)], [info("y", 2, 3)])
    simplification.lower_erfc(model.graph)
    checks.check_operators(model.graph, framework="TensorFlow")
    from math import erfc

    (y,) = ReferenceEvaluator(model).run(None, X)
    np.testing.assert_allclose(y, np.vectorize(erfc)(X["x"]), rtol=1e-5)
