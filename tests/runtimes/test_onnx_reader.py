"""An ONNX model as a graph: kinds, hyperparameters, weights, axes, and what is folded away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from parity.network.graph import OPAQUE, Graph, Node
from parity.runtimes.onnx.model_file import parse_model
from parity.runtimes.onnx.model_sessions import ModelSessions, SessionModel
from parity.runtimes.torch.onnx_graphs import OnnxReading
from tests.runtimes.onnx_models import WEIGHTS, Array, drawn, model, network, node

pytestmark = pytest.mark.framework


def read(proto: ModelProto, inputs: Mapping[str, Array], tmp_path: Path | None = None) -> Graph:
    """The graph, which both ways of running must read alike."""
    sessions = ModelSessions()
    sessions.subject = SessionModel(parse_model(proto, "model"))
    graph = sessions.record(inputs)
    graph.validate("model")
    assert Graph.from_json(graph.to_json()).to_json() == graph.to_json()
    return graph


def only(proto: ModelProto, inputs: Mapping[str, Array]) -> Node:
    (found,) = read(proto, inputs).nodes
    return found


IMAGE = drawn(2, 3, 8, 8)


def test_both_ways_of_running_read_the_same_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    by_runtime = read(network(), {"image": IMAGE}).to_json()
    assert OnnxReading(path).record({"image": IMAGE}).to_json() == by_runtime


def test_a_network_is_read() -> None:
    graph = read(network(), {"image": IMAGE})
    assert [each.kind for each in graph.nodes] == [
        "conv", "batch_norm", "relu6", "silu", "global_avg_pool", "reshape", "dense",
    ]  # fmt: skip
    conv, norm, clip, _, _, reshape, dense = graph.nodes
    # SAME_UPPER at stride 2 on an even size pads (0, 1).
    assert conv.hyper["padding"] == [[0, 1], [0, 1]]
    assert (conv.hyper["stride"], conv.hyper["kernel"]) == ([2, 2], [3, 3])
    assert (conv.hyper["in"], conv.hyper["out"], conv.hyper["bias"]) == (3, 6, False)
    assert norm.hyper == {"epsilon": 1e-3}
    assert [each.role for each in norm.parameters] == ["gamma", "beta", "mean", "variance"]
    assert [each.trainable for each in norm.parameters] == [True, True, False, False]
    # The identity is left out, and its reader reads what it copies.
    assert clip.inputs == ("bn",)
    # The shape's arithmetic is a constant of this run.
    assert (reshape.inputs, reshape.hyper["shape"]) == (("pooled",), [2, 6])
    # The product and its bias are one node.
    assert (dense.inputs, dense.outputs, dense.hyper["bias"]) == (("flat",), ("logits",), True)
    assert [(each.name, each.role, each.axes) for each in dense.parameters] == [
        ("dense", "kernel", "I O"), ("offset", "bias", ""),
    ]  # fmt: skip
    assert graph.tensors["conv"].axes == graph.tensors["image"].axes == "N C H W"
    assert graph.inputs[0].declared == (None, 3, 8, 8)
    assert not graph.unused_parameters
    assert not graph.notes


def test_the_moments_are_those_of_the_values() -> None:
    graph = read(network(), {"image": IMAGE})
    kernel = graph.nodes[0].parameters[0]
    values = WEIGHTS["kernel"].astype(np.float64)
    assert kernel.moments is not None
    np.testing.assert_allclose(
        kernel.moments, (values.sum(), (values**2).sum(), values.min(), values.max()), rtol=1e-12
    )


def test_a_transposed_initializer_is_the_weight() -> None:
    nodes = [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t", "y")]
    dense = only(model(nodes, {"x": (2, 5)}, ["y"], {"w": drawn(3, 5)}), {"x": drawn(2, 5)})
    (kernel,) = dense.parameters
    assert (kernel.name, kernel.shape, kernel.axes) == ("w", (3, 5), "")
    assert (dense.hyper["in"], dense.hyper["out"]) == (5, 3)


def test_a_transposed_kernel_of_an_image_keeps_its_axes() -> None:
    nodes = [node("Transpose", "w", "t", perm=[3, 2, 0, 1]), node("Conv", "x t", "y")]
    proto = model(nodes, {"x": (1, 3, 6, 6)}, ["y"], {"w": drawn(2, 2, 3, 4)})
    (kernel,) = only(proto, {"x": drawn(1, 3, 6, 6)}).parameters
    assert (kernel.shape, kernel.axes) == ((2, 2, 3, 4), "H W I O")


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_states_the_axes_of_its_kernel(transposed: int) -> None:
    weight = drawn(3, 5) if transposed else drawn(5, 3)
    nodes = [node("Gemm", "x w b", "y", transB=transposed)]
    dense = only(
        model(nodes, {"x": (2, 5)}, ["y"], {"w": weight, "b": drawn(3)}), {"x": drawn(2, 5)}
    )
    assert dense.parameters[0].axes == ("" if transposed else "I O")
    assert (dense.kind, dense.hyper["in"], dense.hyper["out"]) == ("dense", 5, 3)


def quantised_weights() -> dict[str, Array]:
    return {
        "q": (30 * drawn(4, 5)).astype(np.int8), "qs": np.float32(0.05), "qz": np.int8(0),
        "xs": np.float32(0.03), "xz": np.uint8(128), "b": np.arange(5, dtype=np.int32),
        "bs": np.array([0.0015], np.float32), "bz": np.int32(0),
    }  # fmt: skip


def test_a_quantised_weight_is_a_parameter_with_the_moments_of_its_values() -> None:
    weights = quantised_weights()
    nodes = [
        node("QuantizeLinear", "x xs xz", "xq"),
        node("DequantizeLinear", "xq xs xz", "xd"),
        node("DequantizeLinear", "q qs qz", "w"),
        node("DequantizeLinear", "b bs bz", "bd"),
        node("Gemm", "xd w bd", "y"),
    ]
    graph = read(model(nodes, {"x": (2, 4)}, ["y"], weights), {"x": drawn(2, 4)})
    assert [each.kind for each in graph.nodes] == ["quantize", "dequantize", "dense"]
    quantise, _, dense = graph.nodes
    assert quantise.hyper["dtype"] == "uint8"
    assert (quantise.hyper["scale"], quantise.hyper["zero_point"]) == (float(np.float32(0.03)), 128)
    assert not quantise.parameters
    kernel, bias = dense.parameters
    assert (kernel.name, kernel.dtype, kernel.axes) == ("q", "int8", "I O")
    assert (bias.name, bias.role) == ("b", "bias")
    values = weights["q"].astype(np.float64) * 0.05
    assert kernel.moments is not None
    assert kernel.moments[0] == pytest.approx(values.sum(), rel=1e-5)


def test_a_dynamically_quantised_product_is_one_node() -> None:
    weights = quantised_weights() | {"f": drawn(5)}
    nodes = [
        node("DynamicQuantizeLinear", "x", "xq s z"),
        node("MatMulInteger", "xq q z qz", "i"),
        node("Cast", "i", "c", to=TensorProto.FLOAT),
        node("Mul", "s qs", "both"),
        node("Mul", "c both", "m"),
        node("Add", "m f", "y"),
    ]
    dense = only(model(nodes, {"x": (2, 4)}, ["y"], weights), {"x": drawn(2, 4)})
    assert (dense.kind, dense.inputs, dense.outputs) == ("dense", ("x",), ("y",))
    assert [each.role for each in dense.parameters] == ["kernel", "bias"]
    assert dense.hyper["quantized"]


def test_an_unknown_operator_is_opaque_and_noted() -> None:
    nodes = [node("Relu", "x", "r"), node("MeanVarianceNormalization", "r", "y")]
    graph = read(model(nodes, {"x": (2, 3, 4, 4)}, ["y"], {}), {"x": drawn(2, 3, 4, 4)})
    assert [each.kind for each in graph.nodes] == ["relu", OPAQUE]
    assert graph.notes == (
        "not read inside, compared at their outputs: MeanVarianceNormalization",
    )  # fmt: skip


def test_a_fused_convolution_has_its_activation() -> None:
    fused = onnx.helper.make_node(
        "FusedConv", ["x", "k"], ["y"], domain="com.microsoft", activation="Clip",
        activation_params=[0.0, 6.0],
    )  # fmt: skip
    conv = only(model([fused], {"x": (1, 3, 5, 5)}, ["y"], {"k": WEIGHTS["kernel"]}),
                {"x": drawn(1, 3, 5, 5)})  # fmt: skip
    assert (conv.kind, conv.operation) == ("conv", "com.microsoft.FusedConv")
    assert conv.hyper["activation"] == "relu6"


ONE_NODE: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("Clip", (np.float32(-1), np.float32(2)), "clip", {"low": -1.0, "high": 2.0}),
    ("Clip", (np.float32(0),), "relu", {}),
    ("LeakyRelu", {"alpha": 0.01}, "leaky_relu", {"slope": 0.01}),
    ("HardSigmoid", {"alpha": 1 / 6}, "hard_sigmoid", {"slope": 1 / 6, "offset": 0.5}),
    ("HardSigmoid", {}, "hard_sigmoid", {"slope": 0.2, "offset": 0.5}),
    ("Softmax", {"axis": 1}, "softmax", {"axis": 1}),
    ("ReduceMean", (np.array([-1, 1]),), "reduce_mean", {"axes": [1, 3], "keepdims": True}),
    ("Transpose", {"perm": [0, 2, 3, 1]}, "transpose", {"perm": [0, 2, 3, 1]}),
    ("Pad", (np.array([0, 0, 1, 2, 0, 0, 0, 1]),), "pad",
     {"padding": [[1, 0], [2, 1]], "value": 0.0, "mode": "constant"}),
    ("Slice", (np.array([1]), np.array([-1]), np.array([2])), "slice",
     {"axes": [2], "starts": [1], "ends": [5], "steps": [1], "squeeze": []}),
    ("Gather", (np.array(2),), "slice",
     {"axes": [0], "starts": [0], "ends": [1], "steps": [1], "squeeze": [0]}),
    ("MaxPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}, "max_pool",
     {"kernel": [3, 3], "stride": [2, 2], "padding": [[1, 0], [1, 0]], "dilation": [1, 1],
      "ceil": False}),
    ("Resize", (None, np.array([1, 1, 2, 2], np.float32)), "upsample",
     {"mode": "nearest_exact", "align_corners": False, "scale": [2.0, 2.0]}),
    ("Gelu", {"approximate": "tanh"}, "gelu", {"approximate": True}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "given", "kind", "hyper"), ONE_NODE, ids=str)
def test_hyperparameters_are_in_the_shared_units(
    operator: str, given: Any, kind: str, hyper: dict[str, Any]
) -> None:
    attributes = given if isinstance(given, dict) else {}
    constants = () if isinstance(given, dict) else given
    weights = {f"c{i}": array for i, array in enumerate(constants) if array is not None}
    names = " ".join("-" if array is None else f"c{i}" for i, array in enumerate(constants))
    if operator == "Gather":
        weights["c0"] = np.array(-3)
    nodes = [node(operator, f"x {names}", "y", **attributes)]
    opset = 20 if operator == "Gelu" else 18
    proto = model(nodes, {"x": (3, 3, 6, 6)}, ["y"], weights, opset=opset)
    found = only(proto, {"x": drawn(3, 3, 6, 6)})
    assert (found.kind, dict(found.hyper)) == (kind, hyper)
    assert not found.parameters


def test_an_embedding_a_learned_sum_and_a_layer_scale() -> None:
    weights = {"table": drawn(9, 4), "position": drawn(5, 4), "scale": drawn(4)}
    nodes = [
        node("Gather", "table ids", "e"),
        node("Add", "e position", "p"),
        node("Mul", "scale p", "y"),
    ]
    proto = model(nodes, {"ids": ("N", 5)}, ["y"], weights, dtypes={"ids": TensorProto.INT64})
    graph = read(proto, {"ids": np.arange(10).reshape(2, 5) % 9})
    assert [each.kind for each in graph.nodes] == ["embedding", "bias_add", "layer_scale"]
    assert [each.parameters[0].role for each in graph.nodes] == ["embeddings", "bias", "gamma"]


def test_a_bias_that_something_else_reads_the_product_of_is_kept_apart() -> None:
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "s"), node("Mul", "s p", "y")]
    proto = model(nodes, {"x": (2, 4)}, ["y"], {"w": drawn(4, 3), "b": drawn(3)})
    graph = read(proto, {"x": drawn(2, 4)})
    assert [each.kind for each in graph.nodes] == ["dense", "bias_add", "multiply"]


def test_an_output_that_no_input_reaches_has_a_node() -> None:
    nodes = [node("Neg", "x", "y"), node("Add", "w w", "twice")]
    graph = read(model(nodes, {"x": (2,)}, ["y", "twice"], {"w": drawn(3)}), {"x": drawn(2)})
    assert graph.producers["twice"].operation == "Constant"


def test_a_weight_that_no_operation_reads_is_listed() -> None:
    proto = model([node("Neg", "x", "y")], {"x": (2,)}, ["y"], {"left": drawn(3)})
    assert [each.name for each in read(proto, {"x": drawn(2)}).unused_parameters] == ["left"]


def test_the_lowest_precision_upstream_is_told() -> None:
    nodes = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16),
        node("Mul", "h w", "m"),
        node("Cast", "m", "y", to=TensorProto.FLOAT),
        node("Neg", "x", "z"),
    ]
    proto = model(nodes, {"x": (2, 3)}, ["y", "z"], {"w": drawn(3).astype(np.float16)})
    graph = read(proto, {"x": drawn(2, 3)})
    assert (graph.lowest_precisions["y"], graph.lowest_precisions["z"]) == ("float16", "float32")
    assert graph.tensors["m"].dtype == "float16"


def test_axes_follow_a_transpose() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t kernel", "c"),
        node("Relu", "c", "r"),
        node("Transpose", "r", "y", perm=[0, 2, 3, 1]),
    ]
    proto = model(nodes, {"x": (1, 8, 8, 3)}, ["y"], {"kernel": WEIGHTS["kernel"]})
    graph = read(proto, {"x": drawn(1, 8, 8, 3)})
    axes = {name: tensor.axes for name, tensor in graph.tensors.items()}
    assert axes == {"x": "N H W C", "t": "N C H W", "c": "N C H W", "r": "N C H W", "y": "N H W C"}


def test_the_module_and_the_line_are_those_that_pytorch_writes() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (2,)}, ["y"], {})
    properties = {
        "pkg.torch.onnx.name_scopes": "['', 'stem', 'stem.act', 'relu']",
        "pkg.torch.onnx.stack_trace": 'File "/home/me/net.py", line 12, in forward\n  x\n'
        'File "/site-packages/torch/nn/modules/activation.py", line 3, in forward',
    }
    for key, value in properties.items():
        proto.graph.node[0].metadata_props.add(key=key, value=value)
    found = only(proto, {"x": drawn(2)})
    assert (found.path, found.source) == ("stem.act", "/home/me/net.py:12")


@pytest.mark.parametrize(
    ("shape", "joined"), [((6, 1, 1), True), ((1, 6, 1, 1), True), ((6,), False), ((4,), False)]
)
def test_the_bias_of_a_convolution_is_one_for_each_channel(
    shape: tuple[int, ...], joined: bool
) -> None:
    """One along the width is a learned sum."""
    nodes = [
        node("Conv", "x kernel", "c"),
        node("Reshape", "b shape", "r"),
        node("Add", "c r", "y"),
    ]
    weights = {
        "kernel": WEIGHTS["kernel"], "b": drawn(int(np.prod(shape))), "shape": np.array(shape),
    }  # fmt: skip
    width = 6 if shape == (4,) else 8
    proto = model(nodes, {"x": (1, 3, 6, width)}, ["y"], weights)
    graph = read(proto, {"x": drawn(1, 3, 6, width)})
    assert [each.kind for each in graph.nodes] == (["conv"] if joined else ["conv", "bias_add"])
    assert graph.nodes[-1].parameters[-1].name == "b"


def test_a_shape_that_is_computed_holds_no_weights_of_the_layers_before(tmp_path):
    """A reshape to the shape of a layer's output, through a chain of 60 sums of one value."""
    weights = {
        "w": drawn(4, 3),
        "start": np.array([0]),
        "end": np.array([1]),
        "last": np.array([-1]),
    }
    nodes = [
        node("MatMul", "x w", "y"),
        node("Shape", "y", "s"),
        node("Slice", "s start end", "n"),
    ]
    name = "n"
    for number in range(60):
        # Each is read twice, so that there are 2⁶⁰ paths.
        nodes += [
            node("Add", f"{name} {name}", f"a{number}"),
            node("Sub", f"a{number} {name}", f"n{number}"),
        ]
        name = f"n{number}"
    nodes += [
        node("Concat", f"{name} last", "shape", axis=0),
        node("Reshape", "y shape", "z"),
        node("Cast", name, "f", to=TensorProto.FLOAT),
        node("Mul", "z f", "out"),
    ]
    graph = read(model(nodes, {"x": (2, 4)}, ["out"], weights), {"x": drawn(2, 4)}, tmp_path)
    read_by = {each.operation: [p.name for p in each.parameters] for each in graph.nodes}
    assert read_by["MatMul"] == ["w"]
    assert read_by["Mul"] == []
