"""One ONNX node as a kind with hyperparameters and roles, in the units of all frameworks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from parity.network import kinds, windows
from parity.network.graph import OPAQUE, Node, Tensor
from parity.runtimes.onnx.model_file import restore_decimal

Array = NDArray[Any]

Axes = dict[str, str]


@dataclass(frozen=True)
class Static:
    """An input that does not depend on the model's inputs: a weight, a constant, a shape."""

    name: str
    value: Array


@dataclass(frozen=True)
class NodeView:
    """What a node computes, and on what: its inputs are tensors' ids, values, or absent."""

    operation: str
    domain: str
    attributes: Mapping[str, Any]
    opset: int
    inputs: tuple[str | Static | None, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, or `default`."""
        return self.attributes.get(name, default)

    def number(self, name: str, default: float) -> float:
        """Return a float attribute as it was before it was rounded to float32."""
        return restore_decimal(self.attributes.get(name, default), default)

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an input, empty where it is absent."""
        if index >= len(self.inputs):
            return ()
        value = self.inputs[index]
        if isinstance(value, Static):
            return value.value.shape
        return () if value is None else self.shapes.get(value, ())

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return self.shapes.get(self.outputs[0], ())

    def static(self, index: int) -> Array | None:
        """Return the values of an input that is static, or None."""
        value = self.inputs[index] if index < len(self.inputs) else None
        return value.value if isinstance(value, Static) else None

    def integers(self, index: int, name: str) -> list[int] | None:
        """Return integers that are an input in newer operators, and an attribute in older ones."""
        value = self.static(index)
        if value is not None:
            return [int(each) for each in value.reshape(-1)]
        stated = self.get(name)
        return None if stated is None else [int(each) for each in np.atleast_1d(stated)]

    def has(self, index: int) -> bool:
        """Return whether an optional input is present."""
        return index < len(self.inputs) and self.inputs[index] is not None


@dataclass(frozen=True)
class Reading:
    """A node's kind, its hyperparameters, the role of each weight by the input's position, the
    order of axes by role, and the positions of inputs that hyperparameters state already."""

    kind: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[int, str] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)
    consumed: frozenset[int] = frozenset()


Reader = Callable[[NodeView], Reading]

_READERS: dict[str, Reader] = {}

ROLES: Mapping[str, Mapping[int, str]] = {
    "Conv": {1: "kernel", 2: "bias"},
    "ConvTranspose": {1: "kernel", 2: "bias"},
    "FusedConv": {1: "kernel", 2: "bias"},
    "ConvInteger": {1: "kernel"},
    "QLinearConv": {3: "kernel", 8: "bias"},
    "Gemm": {1: "kernel", 2: "bias"},
    "FusedGemm": {1: "kernel", 2: "bias"},
    "MatMul": {1: "kernel"},
    "FusedMatMul": {1: "kernel"},
    "TransposeMatMul": {1: "kernel"},
    "MatMulInteger": {1: "kernel"},
    "MatMulIntegerToFloat": {1: "kernel", 6: "bias"},
    "DynamicQuantizeMatMul": {1: "kernel", 4: "bias"},
    "QLinearMatMul": {3: "kernel"},
    "QGemm": {3: "kernel", 6: "bias"},
    "BatchNormalization": {1: "gamma", 2: "beta", 3: "mean", 4: "variance"},
    "LayerNormalization": {1: "gamma", 2: "beta"},
    "SimplifiedLayerNormalization": {1: "gamma"},
    "RMSNormalization": {1: "gamma"},
    "InstanceNormalization": {1: "gamma", 2: "beta"},
    "GroupNormalization": {1: "gamma", 2: "beta"},
    "GroupNorm": {1: "gamma", 2: "beta"},
    "SkipLayerNormalization": {2: "gamma", 3: "beta", 4: "bias"},
    "SkipSimplifiedLayerNormalization": {2: "gamma", 3: "bias"},
    "PRelu": {1: "alpha"},
    "BiasGelu": {1: "bias"},
    "FastGelu": {1: "bias"},
    "LSTM": {1: "kernel", 2: "recurrent_kernel", 3: "bias"},
    "GRU": {1: "kernel", 2: "recurrent_kernel", 3: "bias"},
    "RNN": {1: "kernel", 2: "recurrent_kernel", 3: "bias"},
    "Attention": {1: "packed_kernel", 2: "packed_bias"},
}
"""By operator, the roles of its inputs by position."""

SETTINGS: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearAveragePool": (1, 2, 3, 4),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "QLinearLeakyRelu": (1, 2, 3, 4),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearSigmoid": (1, 2, 3, 4),
    "QLinearSoftmax": (1, 2, 3, 4),
    "QuantizeLinear": (1, 2),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
"""By operator, the inputs by position that are arguments and never weights: scales, bounds."""


def read_node(view: NodeView) -> Reading:
    """Return what a node is; an operator that is not known here is opaque."""
    reader = _READERS.get(view.operation)
    if reader is not None:
        return reader(view)
    # A kind that states its operator has no settings but those of the operator's attributes.
    plain = kinds.find_by_operator(view.operation)
    if plain is None or view.domain:
        return Reading(OPAQUE, roles=_present_roles(view))
    stated = {
        setting.name: setting.convert(view.attributes[setting.onnx])
        for setting in plain.hyperparameters
        if setting.onnx in view.attributes
    }
    return Reading(plain.name, stated)


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Register the reader of these operators."""

    def register(reader: Reader) -> Reader:
        _READERS.update(dict.fromkeys(names, reader))
        return reader

    return register


def _present_roles(view: NodeView) -> dict[int, str]:
    return {i: role for i, role in ROLES.get(view.operation, {}).items() if view.has(i)}


# Convolutions and products --------------------------------------------------------------------


_FUSED = {
    "": "linear", "Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid", "LeakyRelu": "leaky_relu",
}  # fmt: skip


def _fused_activation(view: NodeView) -> str:
    """Return the kind of the activation that a fused node applies."""
    name = view.get("activation", "")
    if name == "Clip":
        low, high = (restore_decimal(each) for each in view.get("activation_params", [0, 0]))
        return "relu6" if (low, high) == (0, 6) else f"clip {low:g} {high:g}"
    return _FUSED.get(name, name)


def _window(view: NodeView, kernel: Sequence[int], sizes: Sequence[int]) -> dict[str, Any]:
    """Return stride, padding and dilation of a window; `auto_pad` is resolved by the sizes."""
    rank = len(kernel)
    strides = list(view.get("strides", [1] * rank))
    dilations = list(view.get("dilations", [1] * rank))
    mode = view.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER") and len(sizes) == rank:
        pads = [
            windows.same_padding(n, kernel=k, stride=s, dilation=d)
            for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        padding = [list(pair if mode == "SAME_UPPER" else reversed(pair)) for pair in pads]
    elif mode == "VALID":
        padding = [[0, 0] for _ in range(rank)]
    else:
        flat = list(view.get("pads", [0] * 2 * rank))
        padding = [[flat[axis], flat[axis + rank]] for axis in range(rank)]
    return {"kernel": list(kernel), "stride": strides, "padding": padding, "dilation": dilations}


@reads("Conv", "FusedConv", "ConvInteger", "QLinearConv")
def _read_conv(view: NodeView) -> Reading:
    roles = _present_roles(view)
    at = next(index for index, role in ROLES[view.operation].items() if role == "kernel")
    shape, groups = view.shape(at), int(view.get("group", 1))
    if view.static(at) is None or len(shape) < 3:
        return Reading(OPAQUE, roles=roles)
    hyper = _window(view, shape[2:], view.shape(0)[2:])
    hyper |= {
        "groups": groups,
        "bias": "bias" in roles.values(),
        "in": shape[1] * groups,
        "out": shape[0],
        "activation": _fused_activation(view),
    }
    if view.operation in ("ConvInteger", "QLinearConv"):
        hyper["quantized"] = True
    kind = "depthwise_conv" if groups == shape[1] * groups > 1 else "conv"
    return Reading(kind, hyper, roles)


@reads("ConvTranspose")
def _read_transposed(view: NodeView) -> Reading:
    """The padding is what is cropped; it follows from the output's shape."""
    shape, groups = view.shape(1), int(view.get("group", 1))
    roles = _present_roles(view)
    if view.static(1) is None or len(shape) < 3:
        return Reading(OPAQUE, roles=roles)
    hyper = _window(view, shape[2:], ())
    mode = view.get("auto_pad", "NOTSET")
    padding = []
    for axis, size in enumerate(view.shape(0)[2:]):
        kernel, stride, dilation = (hyper[n][axis] for n in ("kernel", "stride", "dilation"))
        whole = windows.transposed_extent(size, kernel=kernel, stride=stride, dilation=dilation)
        total = whole - view.output_shape[2 + axis]
        if mode.startswith("SAME") or view.get("output_shape") is not None:
            # The specification puts the odd one at the end for SAME_UPPER, else at the beginning.
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
        else:
            begin = hyper["padding"][axis][0]
        padding.append([begin, total - begin])
    hyper |= {
        "padding": padding,
        "groups": groups,
        "bias": 2 in roles,
        "in": shape[0],
        "out": shape[1] * groups,
        "activation": "linear",
    }
    return Reading("conv_transpose", hyper, roles)


@reads("Gemm", "FusedGemm", "QGemm")
def _read_gemm(view: NodeView) -> Reading:
    roles = _present_roles(view)
    at = next(index for index, role in ROLES[view.operation].items() if role == "kernel")
    shape, transposed = view.shape(at), bool(view.get("transB", 0))
    scaled = (view.number("alpha", 1.0), view.number("beta", 1.0)) != (1.0, 1.0)
    if view.get("transA", 0) or scaled or len(shape) != 2:
        return Reading(OPAQUE, roles=roles)
    if view.static(at) is None:
        return Reading(OPAQUE if transposed or view.has(2) else "matmul")
    hyper = {
        "bias": "bias" in roles.values(),
        "in": shape[1] if transposed else shape[0],
        "out": shape[0] if transposed else shape[1],
        "activation": _fused_activation(view),
    }
    if view.operation == "QGemm":
        hyper["quantized"] = True
    # The canonical order is (O, I).
    return Reading("dense", hyper, roles, {} if transposed else {"kernel": "I O"})


@reads(
    "MatMul", "FusedMatMul", "TransposeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QLinearMatMul",
)  # fmt: skip
def _read_product(view: NodeView) -> Reading:
    roles = _present_roles(view)
    at = next(index for index, role in ROLES[view.operation].items() if role == "kernel")
    shape, transposed = view.shape(at), bool(view.get("transB", 0))
    changed = view.get("transA", 0) or view.number("alpha", 1.0) != 1.0
    if view.static(at) is None or len(shape) != 2 or changed:
        extra = {
            name: value
            for name in ("transA", "transB", "alpha")
            if (value := view.get(name)) not in (None, 0, 1.0)
        }
        return Reading(OPAQUE if extra else "matmul", extra)
    hyper: dict[str, Any] = {
        "bias": "bias" in roles.values(),
        "in": shape[1] if transposed else shape[0],
        "out": shape[0] if transposed else shape[1],
        "activation": "linear",
    }
    if view.operation not in ("MatMul", "FusedMatMul", "TransposeMatMul"):
        hyper["quantized"] = True
    return Reading("dense", hyper, roles, {} if transposed else {"kernel": "I O"})


@reads("Einsum")
def _read_einsum(view: NodeView) -> Reading:
    return Reading("einsum", {"equation": view.get("equation", "").replace(" ", "")})


@reads("Gather")
def _read_gather(view: NodeView) -> Reading:
    """Rows of a weight are an embedding; one place of an axis is a slice."""
    axis, shape = int(view.get("axis", 0)), view.shape(0)
    weight = view.static(0)
    if weight is not None and axis == 0 and weight.ndim == 2 and weight.dtype.kind in "fVi":
        hyper = {"in": weight.shape[0], "out": weight.shape[1]}
        return Reading("embedding", hyper, {0: "embeddings"})
    index = view.static(1)
    axis = axis % len(shape) if shape else axis
    if index is not None and index.ndim == 0 and shape:
        place = int(index) % shape[axis]
        hyper = {
            "axes": [axis], "starts": [place], "ends": [place + 1], "steps": [1], "squeeze": [axis],
        }  # fmt: skip
        return Reading("slice", hyper, consumed=frozenset({1}))
    return Reading("gather", {"axis": axis})


_DEFAULT_GATES = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}


@reads("LSTM", "GRU", "RNN")
def _read_recurrent(view: NodeView) -> Reading:
    roles = _present_roles(view)
    batch_first = bool(view.get("layout", 0))
    direction = view.get("direction", "forward")
    hyper: dict[str, Any] = {
        "units": int(view.get("hidden_size", view.shape(2)[-1] if view.shape(2) else 0)),
        "layers": 1,
        "bidirectional": direction == "bidirectional",
        "time_major": not batch_first,
    }
    kind = view.operation.lower()
    if kind == "gru":
        hyper["reset_after"] = bool(view.get("linear_before_reset", 0))
    names = [n.decode() if isinstance(n, bytes) else n for n in view.get("activations") or ()]
    count = 2 if hyper["bidirectional"] else 1
    default = _DEFAULT_GATES[view.operation]
    if view.operation == "RNN":
        hyper["relu"] = names == ["Relu"] * count
        default = ["Relu"] if hyper["relu"] else default
    ordinary = not names or names == default * count
    if direction == "reverse":
        hyper["direction"] = "reverse"
    if not ordinary or view.get("clip") is not None or view.has(7):
        return Reading(OPAQUE, hyper, roles)
    # The gates are i, o, f, g in an LSTM and z, r, h in a GRU, one direction behind the other.
    return Reading(kind, hyper, roles, {"kernel": "D O I", "recurrent_kernel": "D O I",
                                        "bias": "D C"})  # fmt: skip


# Normalisations -------------------------------------------------------------------------------


@reads("BatchNormalization", "InstanceNormalization")
def _read_channel_norm(view: NodeView) -> Reading:
    kind = "batch_norm" if view.operation == "BatchNormalization" else "instance_norm"
    if view.get("training_mode", 0):
        return Reading(OPAQUE, roles=_present_roles(view))
    return Reading(kind, {"epsilon": view.number("epsilon", 1e-5)}, _present_roles(view))


@reads("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _read_layer_norm(view: NodeView) -> Reading:
    rank = len(view.shape(0))
    first = int(view.get("axis", -1)) % rank if rank else -1
    hyper = {"epsilon": view.number("epsilon", 1e-5), "axes": list(range(first, rank))}
    kind = "layer_norm" if view.operation == "LayerNormalization" else "rms_norm"
    return Reading(kind, hyper, _present_roles(view))


@reads("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _read_skip_norm(view: NodeView) -> Reading:
    """A sum and a normalisation; the sum is another output, if something reads it."""
    rank = len(view.shape(0))
    hyper = {"epsilon": view.number("epsilon", 1e-12), "axes": [rank - 1], "skip": True}
    kind = "layer_norm" if view.operation == "SkipLayerNormalization" else "rms_norm"
    return Reading(kind, hyper, _present_roles(view))


@reads("GroupNormalization")
def _read_group_norm(view: NodeView) -> Reading:
    hyper = {"epsilon": view.number("epsilon", 1e-5), "groups": int(view.get("num_groups"))}
    return Reading("group_norm", hyper, _present_roles(view))


# Activations ----------------------------------------------------------------------------------


@reads("Clip")
def _read_clip(view: NodeView) -> Reading:
    """Bounds are inputs from opset 11 on, attributes before."""
    bounds: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        value = view.static(index)
        if view.has(index) and value is None:
            return Reading(OPAQUE)
        stated = view.get(name)
        number = None if value is None else float(value.reshape(()))
        if number is None and stated is not None:
            number = float(stated)
        infinite = number is not None and (math.isinf(number) or abs(number) >= 3e38)
        bounds.append(None if number is None or infinite else restore_decimal(number))
    consumed = frozenset({1, 2})
    if bounds == [0.0, None]:
        return Reading("relu", consumed=consumed)
    if bounds == [0.0, 6.0]:
        return Reading("relu6", consumed=consumed)
    hyper = {n: b for n, b in zip(("low", "high"), bounds, strict=True) if b is not None}
    return Reading("clip", hyper, consumed=consumed)


@reads("LeakyRelu")
def _read_leaky_relu(view: NodeView) -> Reading:
    return Reading("leaky_relu", {"slope": view.number("alpha", 0.01)})


@reads("Elu", "Celu")
def _read_elu(view: NodeView) -> Reading:
    return Reading(view.operation.lower(), {"alpha": view.number("alpha", 1.0)})


@reads("HardSigmoid")
def _read_hard_sigmoid(view: NodeView) -> Reading:
    slope = restore_decimal(view.get("alpha", 0.2), 0.2, 1 / 6)
    return Reading("hard_sigmoid", {"slope": slope, "offset": view.number("beta", 0.5)})


@reads("PRelu")
def _read_prelu(view: NodeView) -> Reading:
    if view.static(1) is None:
        return Reading(OPAQUE)
    return Reading("prelu", roles={1: "alpha"})


@reads("Gelu", "BiasGelu", "FastGelu")
def _read_gelu(view: NodeView) -> Reading:
    tanh = view.operation == "FastGelu" or view.get("approximate", "none") == "tanh"
    hyper: dict[str, Any] = {"approximate": tanh}
    if view.has(1):
        # A bias is added before: a learned sum and the activation in one node.
        hyper["bias"] = True
    return Reading("gelu", hyper, _present_roles(view))


@reads("QuickGelu")
def _read_quick_gelu(view: NodeView) -> Reading:
    """x · sigmoid(alpha · x), which is SiLU where alpha is 1."""
    alpha = view.number("alpha", 1.702)
    return Reading("silu") if alpha == 1.0 else Reading(OPAQUE, {"alpha": alpha})


@reads("Swish")
def _read_swish(view: NodeView) -> Reading:
    alpha = view.number("alpha", 1.0)
    return Reading("silu") if alpha == 1.0 else Reading(OPAQUE, {"alpha": alpha})


@reads("Softmax", "LogSoftmax")
def _read_softmax(view: NodeView) -> Reading:
    kind = "softmax" if view.operation == "Softmax" else "log_softmax"
    rank = len(view.shape(0))
    axis = int(view.get("axis", -1 if view.opset >= 13 else 1))
    axis = axis % rank if rank else axis
    # Before opset 13 the axes from `axis` on are one; which is the same for the last one.
    if view.opset < 13 and axis != rank - 1:
        return Reading(OPAQUE, {"axis": axis})
    return Reading(kind, {"axis": axis})


# Pools ----------------------------------------------------------------------------------------


@reads("MaxPool", "AveragePool")
def _read_pool(view: NodeView) -> Reading:
    hyper = _window(view, view.get("kernel_shape"), view.shape(0)[2:])
    hyper["ceil"] = bool(view.get("ceil_mode", 0))
    if view.operation == "MaxPool":
        return Reading("max_pool", hyper)
    dilation = hyper.pop("dilation")
    hyper["count_padding"] = bool(view.get("count_include_pad", 0))
    return Reading("avg_pool" if set(dilation) == {1} else OPAQUE, hyper)


@reads("GlobalAveragePool", "GlobalMaxPool")
def _read_global_pool(view: NodeView) -> Reading:
    kind = "global_avg_pool" if view.operation == "GlobalAveragePool" else "global_max_pool"
    return Reading(kind, {"size": [1] * max(len(view.shape(0)) - 2, 1)})


_REDUCTIONS = {
    "ReduceMean": "reduce_mean", "ReduceSum": "reduce_sum", "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min", "ReduceL2": "reduce_l2",
}  # fmt: skip


@reads(*_REDUCTIONS)
def _read_reduction(view: NodeView) -> Reading:
    rank = len(view.shape(0))
    axes = view.integers(1, "axes")
    if not axes and view.get("noop_with_empty_axes", 0):
        return Reading("identity", consumed=frozenset({1}))
    every = sorted(axis % rank for axis in axes) if axes else list(range(rank))
    hyper = {"axes": every, "keepdims": bool(view.get("keepdims", 1))}
    return Reading(_REDUCTIONS[view.operation], hyper, consumed=frozenset({1}))


@reads("ArgMax")
def _read_argmax(view: NodeView) -> Reading:
    axis = int(view.get("axis", 0)) % max(len(view.shape(0)), 1)
    return Reading("argmax", {"axis": axis, "keepdims": bool(view.get("keepdims", 1))})


@reads("CumSum")
def _read_cumsum(view: NodeView) -> Reading:
    axis = view.integers(1, "axis")
    if axis is None or view.get("exclusive", 0) or view.get("reverse", 0):
        return Reading(OPAQUE)
    return Reading("cumsum", {"axis": axis[0]}, consumed=frozenset({1}))


# Joins ----------------------------------------------------------------------------------------


@reads("Add", "Mul")
def _read_arithmetic(view: NodeView) -> Reading:
    """With a weight a learned sum or a layer scale; with data or a single number the operation."""
    for index in (0, 1):
        value = view.static(index)
        if value is not None and value.size > 1 and value.dtype.kind in "fV":
            if view.operation == "Add":
                return Reading("bias_add", roles={index: "bias"})
            return Reading("layer_scale", roles={index: "gamma"})
    return Reading("add" if view.operation == "Add" else "multiply")


@reads("Sum")
def _read_sum(view: NodeView) -> Reading:
    return Reading("add")


@reads("Mod")
def _read_mod(view: NodeView) -> Reading:
    return Reading(OPAQUE if view.get("fmod", 0) else "mod")


@reads("Concat")
def _read_concat(view: NodeView) -> Reading:
    return Reading("concat", {"axis": int(view.get("axis", 1)) % max(len(view.output_shape), 1)})


@reads("Attention")
def _read_attention(view: NodeView) -> Reading:
    """ONNX's own; ONNX Runtime's holds the projections too, and no other framework has it."""
    if view.domain:
        return Reading(OPAQUE, {"heads": view.get("num_heads")}, _present_roles(view),
                       {"packed_kernel": "I O"})  # fmt: skip
    hyper: dict[str, Any] = {"causal": bool(view.get("is_causal", 0))}
    if view.get("scale") is not None:
        hyper["scale"] = view.number("scale", 0.0)
    kv_heads, heads = view.get("kv_num_heads"), view.get("q_num_heads")
    if len(view.shape(0)) == 4:
        heads, kv_heads = view.shape(0)[1], view.shape(1)[1]
    hyper["grouped"] = heads != kv_heads
    if view.number("softcap", 0.0):
        return Reading(OPAQUE, hyper)
    return Reading("scaled_dot_product_attention", hyper)


@reads("MultiHeadAttention")
def _read_runtime_attention(view: NodeView) -> Reading:
    hyper: dict[str, Any] = {"causal": bool(view.get("unidirectional", 0))}
    if view.get("scale") is not None:
        hyper["scale"] = view.number("scale", 0.0)
    return Reading("scaled_dot_product_attention" if not view.has(3) else OPAQUE, hyper)


# Moving ---------------------------------------------------------------------------------------


@reads("Reshape")
def _read_reshape(view: NodeView) -> Reading:
    shape = list(view.output_shape)
    hyper: dict[str, Any] = {"shape": shape}
    if shape and view.shape(0)[:1] == tuple(shape[:1]):
        hyper["target"] = shape[1:]
    return Reading("reshape", hyper, consumed=frozenset({1}))


@reads("Transpose")
def _read_transpose(view: NodeView) -> Reading:
    rank = len(view.shape(0))
    return Reading("transpose", {"perm": list(view.get("perm", reversed(range(rank))))})


@reads("Squeeze", "Unsqueeze")
def _read_unit_axes(view: NodeView) -> Reading:
    squeezes = view.operation == "Squeeze"
    shape = view.shape(0) if squeezes else view.output_shape
    axes = view.integers(1, "axes")
    if axes is None:
        axes = [axis for axis, length in enumerate(shape) if length == 1]
    every = sorted(axis % max(len(shape), 1) for axis in axes)
    kind = "squeeze" if squeezes else "unsqueeze"
    return Reading(kind, {"axes": every}, consumed=frozenset({1}))


@reads("Expand")
def _read_expand(view: NodeView) -> Reading:
    return Reading("expand", {"shape": list(view.output_shape)}, consumed=frozenset({1}))


@reads("Tile")
def _read_tile(view: NodeView) -> Reading:
    repeats = view.integers(1, "repeats")
    if repeats is None:
        return Reading(OPAQUE)
    return Reading("tile", {"repeats": repeats}, consumed=frozenset({1}))


@reads("Slice")
def _read_slice(view: NodeView) -> Reading:
    """Starts and ends are counted from 0, within the axis."""
    shape = view.shape(0)
    starts, ends = view.integers(1, "starts"), view.integers(2, "ends")
    if starts is None or ends is None:
        return Reading(OPAQUE)
    axes = view.integers(3, "axes")
    axes = [axis % len(shape) for axis in (range(len(starts)) if axes is None else axes)]
    steps = view.integers(4, "steps") or [1] * len(starts)
    found = [
        slice(start, end, step).indices(shape[axis])
        for start, end, step, axis in zip(starts, ends, steps, axes, strict=True)
    ]
    # Python cannot state an end before the first element by a number.
    if any(end < 0 for _, end, _ in found):
        full = all(f == (n - 1, -1, -1) for f, n in zip(found, (shape[a] for a in axes),
                                                        strict=True))  # fmt: skip
        return Reading("flip" if full else OPAQUE, {"axes": axes}, consumed=frozenset({1, 2, 3, 4}))
    hyper = {
        "axes": axes,
        "starts": [start for start, _, _ in found],
        "ends": [end for _, end, _ in found],
        "steps": [step for _, _, step in found],
        "squeeze": [],
    }
    return Reading("slice", hyper, consumed=frozenset({1, 2, 3, 4}))


@reads("Split")
def _read_split(view: NodeView) -> Reading:
    rank = len(view.shape(0))
    axis = int(view.get("axis", 0)) % max(rank, 1)
    sizes = [view.shapes[name][axis] if name in view.shapes else 0 for name in view.outputs if name]
    return Reading("split", {"axis": axis, "sizes": sizes}, consumed=frozenset({1}))


@reads("Cast")
def _read_cast(view: NodeView) -> Reading:
    name = TensorProto.DataType.Name(view.get("to", 0)).lower()
    return Reading("cast", {"dtype": {"float": "float32", "double": "float64"}.get(name, name)})


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@reads("Pad")
def _read_pad(view: NodeView) -> Reading:
    """A pair for each of the last axes that are padded; at least one for each spatial axis."""
    rank, amounts = len(view.shape(0)), view.integers(1, "pads")
    if amounts is None:
        return Reading(OPAQUE)
    axes = [axis % rank for axis in view.integers(3, "axes") or range(rank)]
    pairs = [[0, 0] for _ in range(rank)]
    for axis, begin, end in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        pairs[axis] = [begin, end]
    first = next((axis for axis, pair in enumerate(pairs) if any(pair)), rank)
    value = view.static(2)
    number = view.number("value", 0.0) if value is None else float(value.reshape(()))
    hyper = {
        "padding": pairs[min(first, 2 if rank > 2 else rank - 1) :],
        "value": number,
        "mode": _PAD_MODES.get(view.get("mode", "constant"), view.get("mode")),
    }
    return Reading("pad", hyper, consumed=frozenset({1, 2, 3}))


@reads("Resize", "Upsample")
def _read_resize(view: NodeView) -> Reading:
    """PyTorch's modes; another combination of coordinates and rounding is a mode of its own."""
    before, after = view.shape(0), view.output_shape
    consumed = frozenset({1, 2, 3})
    if len(before) < 3 or before[:2] != after[:2]:
        return Reading(OPAQUE, {"size": list(after)}, consumed=consumed)
    old = view.operation == "Upsample" or view.opset < 11
    mode = view.get("mode", "nearest")
    places = view.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = view.get("nearest_mode", "floor" if old else "round_prefer_floor")
    name = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}.get(len(before), "linear"),
            "cubic": "bicubic"}.get(mode, mode)  # fmt: skip
    if mode == "nearest" and (places, rounding) != ("asymmetric", "floor"):
        exact = places == "half_pixel" and rounding in ("round_prefer_floor", "round_prefer_ceil")
        name = "nearest_exact" if exact else f"nearest {places} {rounding}"
    if mode != "nearest" and places not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        name = f"{name} {places}"
    if view.get("antialias", 0):
        name = f"{name} antialias"
    scales = view.static(1 if old else 2)
    hyper: dict[str, Any] = {"mode": name, "align_corners": places == "align_corners"}
    if view.has(3) or scales is None or not scales.size:
        hyper["size"] = list(after[2:])
    else:
        hyper["scale"] = [float(each) for each in scales.reshape(-1)[2:]]
    return Reading("upsample", hyper, consumed=consumed)


@reads("DepthToSpace", "SpaceToDepth")
def _read_blocks(view: NodeView) -> Reading:
    """PyTorch's order of channels is CRD; the other one is TensorFlow's."""
    hyper: dict[str, Any] = {"block": int(view.get("blocksize"))}
    if view.operation == "SpaceToDepth":
        return Reading("space_to_depth", hyper | {"order": "DCR"})
    if view.get("mode", "DCR") == "DCR":
        hyper["order"] = "DCR"
    return Reading("depth_to_space", hyper)


@reads("QuantizeLinear", "DequantizeLinear")
def _read_quantisation(view: NodeView) -> Reading:
    scale, zero = view.static(1), view.static(2)
    if scale is None:
        return Reading(OPAQUE)
    hyper: dict[str, Any] = {
        "scale": scale.astype(np.float64).tolist(),
        "zero_point": 0 if zero is None else zero.astype(np.int64).tolist(),
    }
    if scale.ndim:
        hyper["axis"] = int(view.get("axis", 1)) % max(len(view.shape(0)), 1)
    kind = "dequantize"
    if view.operation == "QuantizeLinear":
        kind = "quantize"
        hyper["dtype"] = "uint8" if zero is None else str(zero.dtype)
    return Reading(kind, hyper, consumed=frozenset({1, 2}))


# Graphs ---------------------------------------------------------------------------------------


def join_biases(
    nodes: Sequence[Node],
    outputs: set[str],
    shapes: Mapping[str, tuple[int, ...]],
    operands: Mapping[str, tuple[int, ...]],
) -> list[Node]:
    """Return the nodes, those of a product and of the sum with its bias as one.

    Nothing else may read the product. `operands` are, by sum, the shapes of the biases as they are
    added.
    """
    readers: dict[str, int] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    by_output = {node.outputs[0]: node for node in nodes if len(node.outputs) == 1}
    joined: dict[str, Node] = {}
    dropped: set[str] = set()
    for node in nodes:
        if node.kind != "bias_add" or len(node.inputs) != 1:
            continue
        product = by_output.get(node.inputs[0])
        bias = node.parameters[0] if node.parameters else None
        if (
            product is None
            or bias is None
            or not _takes_bias(product.kind)
            or product.find_parameter("bias") is not None
            or readers[node.inputs[0]] > 1
            or node.inputs[0] in outputs
            or not _is_bias(operands.get(node.id, ()), product, shapes.get(node.outputs[0], ()))
        ):
            continue
        joined[node.id] = replace(
            product,
            id=node.id,
            outputs=node.outputs,
            parameters=(*product.parameters, replace(bias, role="bias")),
            hyper={**product.hyper, "bias": True},
        )
        dropped.add(product.id)
    return [joined.get(node.id, node) for node in nodes if node.id not in dropped]


def join_dynamic_quantisation(nodes: Sequence[Node], outputs: set[str]) -> list[Node]:
    """Return the nodes, those of a dynamically quantised product as one that reads floats.

    ONNX Runtime's quantizer writes it as DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast,
    and a Mul by both scales. Tensors in between that something else reads stay.
    """
    producers = {tensor: node for node in nodes for tensor in node.outputs}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(node)

    def only_reader(node: Node, operation: str) -> Node | None:
        (tensor, *others) = node.outputs
        found = readers.get(tensor, [])
        fits = not others and tensor not in outputs and len(found) == 1
        return found[0] if fits and found[0].operation == operation else None

    joined: dict[str, Node] = {}
    dropped: set[str] = set()
    for node in nodes:
        if node.operation not in ("MatMulInteger", "ConvInteger") or not node.inputs:
            continue
        source = producers.get(node.inputs[0])
        cast = only_reader(node, "Cast")
        scaled = only_reader(cast, "Mul") if cast is not None else None
        if source is None or source.operation != "DynamicQuantizeLinear" or scaled is None:
            continue
        assert cast is not None
        joined[scaled.id] = replace(
            node, id=scaled.id, inputs=source.inputs[:1], outputs=scaled.outputs
        )
        dropped |= {node.id, cast.id}
    kept = [joined.get(node.id, node) for node in nodes if node.id not in dropped]
    # What only the dropped nodes read is dropped too: the scales, and their products.
    while True:
        read = {tensor for node in kept for tensor in node.inputs} | outputs
        live = [
            node
            for node in kept
            if node.operation not in ("DynamicQuantizeLinear", "Mul")
            or any(tensor in read for tensor in node.outputs)
        ]
        if len(live) == len(kept):
            return kept
        kept = live


def _takes_bias(name: str) -> bool:
    """Return whether layers of a kind can have a bias, as a hyperparameter says."""
    kind = kinds.find(name)
    return kind is not None and any(setting.name == "bias" for setting in kind.hyperparameters)


def _is_bias(bias: tuple[int, ...], product: Node, shape: tuple[int, ...]) -> bool:
    """Return whether a weight of this shape has one number for each channel of a product's output,
    of which `shape` is the shape."""
    channel = len(shape) - 1 if product.kind == "dense" else 1
    if product.hyper.get("activation", "linear") != "linear":
        return False
    lengths = (1,) * (len(shape) - len(bias)) + bias
    return len(lengths) == len(shape) and all(
        length == (shape[axis] if axis == channel else 1) for axis, length in enumerate(lengths)
    )


_IMAGE = {3: "N C W", 4: "N C H W", 5: "N C D H W"}
_IMAGE_OPERATORS = {
    "Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose", "MaxPool", "AveragePool",
    "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "DepthToSpace", "SpaceToDepth", "Upsample",
}  # fmt: skip


def name_axes(nodes: Sequence[Node], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the axes that the operations state, and those that follow from them
    through operations that keep or permute axes."""
    named = dict(tensors)

    def set_axes(name: str, order: str) -> bool:
        tensor = named.get(name)
        if tensor is None or tensor.axes or not order or len(order.split()) != len(tensor.shape):
            return False
        named[name] = replace(tensor, axes=order)
        return True

    for node in nodes:
        rank = len(named[node.outputs[0]].shape) if node.outputs else 0
        if node.operation.rpartition(".")[2] in _IMAGE_OPERATORS and rank in _IMAGE:
            for name in (*node.outputs[:1], *node.inputs[:1]):
                set_axes(name, _IMAGE[rank])
        elif "time_major" in node.hyper and node.inputs:
            first = "T N C" if node.hyper["time_major"] else "N T C"
            set_axes(node.inputs[0], first)
            if rank == 4:
                set_axes(node.outputs[0], "T D N C" if node.hyper["time_major"] else "N T D C")
    changed = True
    while changed:
        changed = False
        for node in nodes:
            for source, target, forward in _axis_maps(node, named):
                order = named[source].axes
                if order and set_axes(target, forward(order)):
                    changed = True
    return named


def _axis_maps(
    node: Node, tensors: Mapping[str, Tensor]
) -> list[tuple[str, str, Callable[[str], str]]]:
    """Return (source, target, function of the source's axes) for what a node keeps or permutes."""
    if not node.outputs or not node.inputs:
        return []
    output = node.outputs[0]
    if node.kind == "transpose":
        perm = node.hyper["perm"]
        back = sorted(range(len(perm)), key=perm.__getitem__)
        return [
            (node.inputs[0], output, lambda order: _permute(order, perm)),
            (output, node.inputs[0], lambda order: _permute(order, back)),
        ]
    kept = kinds.find(node.kind)
    same = [name for name in node.inputs if len(tensors[name].shape) == len(tensors[output].shape)]
    if node.kind in _KEEPING or (kept is not None and kept.activation):
        pairs = [(name, output) for name in same] + [(output, name) for name in same]
        return [(source, target, lambda order: order) for source, target in pairs]
    return []


_KEEPING = {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Concat", "Pad", "Dropout", "Clip", "Cast",
    "LeakyRelu", "PRelu", "Elu", "HardSigmoid", "QuantizeLinear", "DequantizeLinear", "Resize",
    "LayerNormalization", "Split", "Slice", "QuickGelu", "Softplus", "Where", "Pow",
}  # fmt: skip
"""Operators whose output has the axes of an input of the same rank."""


def _permute(order: str, perm: Sequence[int]) -> str:
    names = order.split()
    return " ".join(names[axis] for axis in perm) if len(names) == len(perm) else ""
