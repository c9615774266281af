"""The move to channels-first: values stay, Transposes go."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from exporters.graph import layout, simplification
from tests.exporters.conftest import info, model_of

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def transpose(source: str, result: str, perm: list[int]) -> onnx.NodeProto:
    return helper.make_node("Transpose", [source], [result], perm=perm)


def moved(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> Counter[str]:
    """Move the model, check that it computes the same, and count its operators."""
    before = ReferenceEvaluator(model).run(None, feeds)
    inferred = simplification.infer_shapes(model)
    layout.to_channels_first(inferred.graph, simplification.shapes_of(inferred.graph))
    simplification.simplify(inferred.graph, opset=17)
    onnx.checker.check_model(simplification.infer_shapes(inferred), full_check=True)
    after = ReferenceEvaluator(inferred).run(None, feeds)
    for expected, actual in zip(before, after, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    return Counter(node.op_type for node in inferred.graph.node)


def body(nodes, constants=None, *, shape=(2, 3, 4, 5)):
    """x in NCHW, moved to NHWC as `h`; `nodes` make `r` in NHWC; moved back as y."""
    nodes = [transpose("x", "h", TO_LAST), *nodes, transpose("r", "y", TO_FIRST)]
    model = model_of(nodes, [info("x", *shape)], [info("y")], constants)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    # The batch varies, or the input would be taken for a weight.
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return model, {"x": x}


F = np.float32
CASES = {
    "relu": ([helper.make_node("Relu", ["h"], ["r"])], {}),
    "bias": ([helper.make_node("Add", ["h", "b"], ["r"])], {"b": np.arange(3, dtype=F)}),
    "scalar": ([helper.make_node("Mul", ["s", "h"], ["r"])], {"s": F(2)}),
    "map": ([helper.make_node("Mul", ["h", "m"], ["r"])], {"m": np.ones((4, 5, 1), F) * 3}),
    "residual": (
        [helper.make_node("Relu", ["h"], ["a"]), helper.make_node("Add", ["h", "a"], ["r"])],
        {},
    ),
    "softmax": ([helper.make_node("Softmax", ["h"], ["r"], axis=-1)], {}),
    "concat": ([helper.make_node("Concat", ["h", "h"], ["r"], axis=3)], {}),
    "pad": (
        [helper.make_node("Pad", ["h", "p"], ["r"])],
        {"p": np.array([0, 1, 2, 0, 0, 3, 0, 0], np.int64)},
    ),
    "slice": (
        [helper.make_node("Slice", ["h", "b", "e", "a"], ["r"])],
        {"b": np.array([1]), "e": np.array([3]), "a": np.array([-1])},
    ),
    "mean kept": ([helper.make_node("ReduceMean", ["h"], ["r"], axes=[1, 2])], {}),
    "clip": ([helper.make_node("Clip", ["h", "", "m"], ["r"])], {"m": F(0.5)}),
}


@pytest.mark.parametrize("name", CASES)
def test_no_transpose_is_left(name):
    nodes, constants = CASES[name]
    counts = moved(*body(nodes, constants))
    assert counts["Transpose"] == 0, counts


def test_global_average_loses_its_axes():
    nodes = [
        transpose("x", "h", TO_LAST),
        helper.make_node("ReduceMean", ["h"], ["y"], axes=[1, 2], keepdims=0),
    ]
    model = model_of(nodes, [info("x", "batch", 3, 4, 5)], [info("y", "batch", 3)])
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(F)
    assert moved(model, {"x": x}) == {"ReduceMean": 1}


def test_split_moves_its_axis():
    nodes = [
        transpose("x", "h", TO_LAST),
        helper.make_node("Split", ["h"], ["a", "b"], axis=3),
        transpose("a", "y", TO_FIRST),
        transpose("b", "z", TO_FIRST),
    ]
    outputs = [info("y", "batch", 2, 4, 5), info("z", "batch", 2, 4, 5)]
    model = model_of(nodes, [info("x", "batch", 4, 4, 5)], outputs)
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 5)).astype(F)
    assert moved(model, {"x": x}) == {"Split": 1}


def test_a_consumer_that_needs_channels_last_gets_one_transpose():
    nodes = [
        transpose("x", "h", TO_LAST),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Reshape", ["a", "s"], ["y"]),
        helper.make_node("Reshape", ["a", "s"], ["z"]),
    ]
    outputs = [info("y", "batch", 60), info("z", "batch", 60)]
    model = model_of(
        nodes, [info("x", "batch", 3, 4, 5)], outputs, {"s": np.array([-1, 60], np.int64)}
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(F)
    assert moved(model, {"x": x})["Transpose"] == 1


def batch_norm(*, two_readers: bool = False) -> onnx.ModelProto:
    nodes = [
        transpose("x", "h", TO_LAST),
        helper.make_node("Add", ["variance", "epsilon"], ["v"]),
        helper.make_node("Sqrt", ["v"], ["d"]),
        helper.make_node("Reciprocal", ["d"], ["i"]),
        helper.make_node("Mul", ["i", "gamma"], ["scale"]),
        helper.make_node("Mul", ["mean", "scale"], ["m"]),
        helper.make_node("Sub", ["beta", "m"], ["shift"]),
        helper.make_node("Mul", ["h", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["n"]),
        helper.make_node("Add", ["n", "scaled"], ["r"])
        if two_readers
        else helper.make_node("Relu", ["n"], ["r"]),
        transpose("r", "y", TO_FIRST),
    ]
    inputs = [info("x", "batch", 3, 4, 5)]
    inputs += [info(name, 3) for name in ("gamma", "beta", "mean", "variance")]
    return model_of(nodes, inputs, [info("y", "batch", 3, 4, 5)], {"epsilon": F(1e-3)})


def test_batch_norm_becomes_one_operator_and_only_when_nothing_else_reads_its_middle():
    rng = np.random.default_rng(0)
    feeds = {name: rng.uniform(0.5, 2, 3).astype(F) for name in ("gamma", "beta", "mean")}
    feeds |= {"variance": rng.uniform(0.5, 2, 3).astype(F)}
    feeds["x"] = rng.standard_normal((2, 3, 4, 5)).astype(F)
    assert moved(batch_norm(), feeds) == {"BatchNormalization": 1, "Relu": 1}
    counts = moved(batch_norm(two_readers=True), feeds)
    assert counts["BatchNormalization"] == 0


def test_an_output_keeps_its_layout():
    nodes = [transpose("x", "h", TO_LAST), helper.make_node("Relu", ["h"], ["y"])]
    model = model_of(nodes, [info("x", "batch", 3, 4, 5)], [info("y", "batch", 4, 5, 3)])
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(F)
    assert moved(model, {"x": x}) == {"Relu": 1, "Transpose": 1}
