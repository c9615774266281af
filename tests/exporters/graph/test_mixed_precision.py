"""A float32 graph in float16 with float32 islands: valid, and near what float32 computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.graph import WeightedModel
from exporters.graph.mixed_precision import convert_to_mixed, with_all_outputs
from exporters.graph.ranges import measure_ranges

pytestmark = pytest.mark.framework

info = helper.make_tensor_value_info
FLOAT = TensorProto.FLOAT


def graph_of(nodes, outputs=("y",), **constants):
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(
        nodes, "g", [info("x", FLOAT, ["n", 4])], [info(o, FLOAT, None) for o in outputs], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return WeightedModel(onnx.shape_inference.infer_shapes(model), {})


def run(model, x):
    proto = model.proto()
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})


def convert(model, x):
    """Convert by the ranges on `x`; return the islands and both results."""
    mixed = convert_to_mixed(model, measure_ranges(model, [{"x": x}]))
    return mixed, run(model, x), run(mixed.model, x)


def assert_near(expected, actual):
    for e, a in zip(expected, actual, strict=True):
        assert a.dtype == np.float32
        assert np.linalg.norm(a - e) <= 2.0**-9 * np.linalg.norm(e)


X = np.random.default_rng(0).uniform(1, 2, (3, 4)).astype(np.float32)
MATRIX = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)


def operators(mixed):
    return [node.op_type for node in mixed.model.proto().graph.node]


def test_a_graph_within_the_range_is_float16_alone():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Relu", ["a"], ["y"], "relu"),
    ]
    mixed, expected, actual = convert(graph_of(nodes, w=MATRIX), X)
    assert not mixed.islands
    assert operators(mixed) == ["Cast", "MatMul", "Relu", "Cast"]
    assert mixed.model.proto().graph.initializer[0].data_type == TensorProto.FLOAT16
    assert_near(expected, actual)


def test_large_values_stay_in_float32_and_no_others():
    """1e5 · x overflows; its logarithm and what follows do not."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "product"),
        helper.make_node("Abs", ["m"], ["a"], "abs"),
        helper.make_node("Mul", ["a", "factor"], ["big"], "scale"),
        helper.make_node("Log", ["big"], ["l"], "log"),
        helper.make_node("MatMul", ["l", "w"], ["y"], "last"),
    ]
    model = graph_of(nodes, w=MATRIX, factor=np.float32(1e5))
    mixed, expected, actual = convert(model, X)
    assert mixed.islands.keys() == {"scale", "log"}
    assert "as large as" in mixed.islands["scale"]
    assert_near(expected, actual)


def test_a_constant_that_would_vanish_stays():
    nodes = [
        helper.make_node("Sub", ["x", "x"], ["zero"], "difference"),
        helper.make_node("Add", ["zero", "epsilon"], ["e"], "add"),
        helper.make_node("Div", ["e", "epsilon"], ["y"], "ratio"),
    ]
    mixed, expected, actual = convert(graph_of(nodes, epsilon=np.float32(1e-12)), X)
    assert mixed.islands.keys() == {"add", "ratio"}
    assert_near(expected, actual)


def test_an_output_that_is_large_keeps_its_range():
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["big"], "scale"),
        helper.make_node("Sqrt", ["big"], ["root"], "root"),
        helper.make_node("MatMul", ["root", "w"], ["y"], "last"),
    ]
    model = graph_of(nodes, outputs=("y", "big"), w=MATRIX, factor=np.float32(1e5))
    _, expected, actual = convert(model, X)
    assert_near(expected, actual)


def test_a_weight_that_both_read_is_stored_in_both():
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"], "narrow"),
        helper.make_node("Mul", ["x", "factor"], ["big"], "scale"),
        helper.make_node("Div", ["big", "w"], ["b"], "wide"),
        helper.make_node("Log", ["b"], ["l"], "log"),
        helper.make_node("Add", ["a", "l"], ["y"], "sum"),
    ]
    weight = np.abs(MATRIX[0]) + 0.5
    mixed, expected, actual = convert(graph_of(nodes, w=weight, factor=np.float32(1e6)), X)
    types = {t.name: t.data_type for t in mixed.model.proto().graph.initializer}
    assert (types["w"], types["w/wide"]) == (TensorProto.FLOAT16, FLOAT)
    assert_near(expected, actual)


def test_an_inner_graph_stays_in_float32_with_what_it_captures():
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["a", "w"], ["inner"])],
            name,
            [],
            [info("inner", FLOAT, None)],
        )
        for name, operator in (("then_branch", "MatMul"), ("else_branch", "Add"))
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "relu"),
        helper.make_node("If", ["flag"], ["b"], "choice", **branches),
        helper.make_node("MatMul", ["b", "w"], ["y"], "last"),
    ]
    mixed, expected, actual = convert(graph_of(nodes, w=MATRIX, flag=np.array(True)), X)
    assert mixed.islands == {"choice": "it has an inner graph"}
    assert_near(expected, actual)


def test_the_sizes_of_a_resize_stay_and_are_no_island():
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["a"], "relu"),
            helper.make_node("Resize", ["a", "", "scales"], ["y"], "resize", mode="nearest"),
        ],
        "g",
        [info("x", FLOAT, ["n", 1, 2, 2])],
        [info("y", FLOAT, None)],
        [numpy_helper.from_array(np.float32([1, 1, 2, 2]), "scales")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = WeightedModel(onnx.shape_inference.infer_shapes(proto), {})
    mixed, expected, actual = convert(model, X[:1].reshape(1, 1, 2, 2))
    assert not mixed.islands
    assert_near(expected, actual)


def test_every_tensor_is_measured_and_the_original_stays():
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["big"], "scale"),
        helper.make_node("Log", ["big"], ["y"], "log"),
    ]
    model = graph_of(nodes, factor=np.float32(1e5))
    before = model.skeleton.SerializeToString(deterministic=True)
    assert [v.name for v in with_all_outputs(model).proto().graph.output] == ["y", "big"]
    ranges = measure_ranges(model, [{"x": X}, {"x": 2 * X}])
    assert ranges["big"] == pytest.approx(2e5 * X.max())
    assert ranges.keys() == {"x", "big", "y"}
    convert_to_mixed(model, ranges)
    assert model.skeleton.SerializeToString(deterministic=True) == before
