"""A float32 graph in float16 and bfloat16: valid, complete, and no further off than rounding."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from exporters.graph import WeightedModel
from exporters.graph.precision import TYPES, convert

pytestmark = pytest.mark.framework


def graph(*, scale=1.0, opset=17, resize=False):
    """Convolution, ReLU and a mean, with a tapped output in the middle."""
    rng = np.random.default_rng(0)
    kernel = (rng.standard_normal((4, 3, 3, 3)) * scale).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["middle"]),
        helper.make_node(
            "Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2.0]), "two")
        ),
        helper.make_node("Mul", ["middle", "two"], ["m"]),
    ]
    weights = [numpy_helper.from_array(kernel, "kernel")]
    if resize:
        scales = np.array([1, 1, 2, 2], np.float32)
        weights.append(numpy_helper.from_array(scales, "scales"))
        nodes.append(helper.make_node("Resize", ["m", "", "scales"], ["r"], mode="nearest"))
    last = "r" if resize else "m"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["logits"]))
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes, "g",
        [info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [info("logits", TensorProto.FLOAT, None), info("middle", TensorProto.FLOAT, None)],
        weights,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return WeightedModel(onnx.shape_inference.infer_shapes(model), {})


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("resize", [False, True])
def test_everything_between_the_ends_is_narrow(precision, resize):
    kind = TYPES[precision][0]
    narrow = convert(graph(resize=resize), precision).proto()
    onnx.checker.check_model(narrow, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(narrow, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    assert all(types[name] == kind for name in ("c", "two", "m", "middle/narrow"))
    ends = [*inferred.graph.input, *inferred.graph.output]
    assert {v.type.tensor_type.elem_type for v in ends} == {TensorProto.FLOAT}
    assert [v.name for v in ends] == ["x", "logits", "middle"]
    held = {tensor.name: tensor.data_type for tensor in narrow.graph.initializer}
    assert held["kernel"] == kind
    # The scales of a resize are float32 by the operator's definition.
    assert not resize or held["scales"] == TensorProto.FLOAT


def test_float16_is_off_by_its_rounding_and_no_more():
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)

    def run(model):
        made = model.proto().SerializeToString()
        session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
        return session.run(["logits", "middle"], {"x": x})

    wide, narrow = run(graph()), run(convert(graph(), "float16"))
    for expected, actual in zip(wide, narrow, strict=True):
        assert actual.dtype == np.float32
        relative = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        assert 2.0**-14 < relative < 2.0**-9


def test_the_original_is_left_as_it_was():
    model = graph()
    before = model.skeleton.SerializeToString()
    convert(model, "float16")
    assert model.skeleton.SerializeToString() == before


def test_a_weight_that_float16_cannot_hold_is_an_error():
    with pytest.raises(ExportError, match=r"kernel: .* is too large for float16"):
        convert(graph(scale=1e5), "float16")
    convert(graph(scale=1e5), "bfloat16")


def test_inner_graphs_are_refused():
    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "inner", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    model = graph()
    node = helper.make_node("If", ["flag"], ["z"], then_branch=inner, else_branch=inner)
    model.skeleton.graph.node.append(node)
    with pytest.raises(ExportError, match="inner graphs"):
        convert(model, "float16")
