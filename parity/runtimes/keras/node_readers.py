"""What a recorded operation of Keras is: its kind, hyperparameters, weights by role, axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.network import kinds, windows
from parity.network.graph import OPAQUE
from parity.runtimes.keras.recorder import Event, Operand

SPATIAL = {1: "T", 2: "H W", 3: "D H W"}


@dataclass
class Reading:
    """An operation as its kind has it.

    `roles` are those of the weights, by the operand's position; `roles_by_name` those of a layer's
    own variables. `weight_axes` is the order of a weight's axes by role, as the operation reads it;
    a layer reads its variables as they are. `axes` names the axes of the first output,
    and `input_axes` those of the first data operand, where the kind states them; with `keeps_axes`
    the output has the operand's. `settings` are the positions of the operands that hyperparameters
    state already.
    """

    kind: str
    hyper: dict[str, Any] = field(default_factory=dict)
    roles: Mapping[int, str] = field(default_factory=dict)
    weight_axes: Mapping[str, str] = field(default_factory=dict)
    roles_by_name: Mapping[str, str] = field(default_factory=dict)
    axes: str = ""
    input_axes: str = ""
    keeps_axes: bool = False
    settings: frozenset[int] = frozenset()


Reader = Callable[[Event], "Reading | None"]

_READERS: dict[str, Reader] = {}

_PLAIN_NAMES = """
AddV2=add Add=add AddN=add Sub=sub Mul=multiply RealDiv=div Div=div FloorDiv=floor_div
FloorMod=mod Pow=pow Maximum=maximum Minimum=minimum Equal=equal NotEqual=not_equal
Less=less LessEqual=less_equal Greater=greater GreaterEqual=greater_equal
LogicalAnd=logical_and LogicalOr=logical_or LogicalNot=logical_not Select=where
SelectV2=where Abs=abs Neg=neg Exp=exp Log=log Sqrt=sqrt Rsqrt=rsqrt Square=square
Reciprocal=reciprocal Inv=reciprocal Erf=erf Sin=sin Cos=cos Floor=floor Ceil=ceil
Round=round Rint=round Sign=sign Relu=relu Relu6=relu6 Sigmoid=sigmoid Tanh=tanh
Softplus=softplus Softsign=softsign Selu=selu silu=silu swish=silu hard_silu=hard_swish
hard_sigmoid=hard_sigmoid log_sigmoid=log_sigmoid mish=mish
"""
_PLAIN = dict(pair.split("=") for pair in _PLAIN_NAMES.split())
"""The kinds of operations that have no hyperparameters."""


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Register the reader of these operations."""

    def register(reader: Reader) -> Reader:
        _READERS.update(dict.fromkeys(names, reader))
        return reader

    return register


def read_event(event: Event) -> Reading:
    """Return what an operation is; what no kind has is opaque, its weights without roles."""
    reader = _READERS.get(event.name)
    if reader is not None:
        reading = reader(event)
        if reading is not None:
            return reading
    elif event.name in _PLAIN:
        return Reading(_PLAIN[event.name], keeps_axes=True)
    return Reading(OPAQUE)


# Helpers -----------------------------------------------------------------------------------------


def channels_last(rank: int) -> str:
    """Return the axes of a tensor whose channels are the last axis."""
    if rank == 2:
        return "N C"
    return f"N {SPATIAL[rank - 2]} C" if rank - 2 in SPATIAL else ""


def channels_first(rank: int) -> str:
    """Return the axes of a tensor whose channels are axis 1."""
    return f"N C {SPATIAL[rank - 2]}" if rank - 2 in SPATIAL else channels_last(rank)


def image_axes(rank: int, *, last: bool) -> str:
    """Return the axes of a tensor with channels."""
    return channels_last(rank) if last else channels_first(rank)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _values(value: Any, count: int) -> list[int]:
    """Return a setting for each spatial axis; one number stands for all."""
    if value is None:
        return [1] * count
    if isinstance(value, Operand):
        value = value.value
    values = [int(item) for item in np.atleast_1d(np.asarray(value))]
    return values * count if len(values) == 1 else values


def _is_last(event: Event) -> bool:
    """Return whether the channels of an operation's images are the last axis."""
    stated = event.arguments.get("data_format")
    if stated is None:
        layer = event.layer
        stated = getattr(layer, "data_format", None) or "channels_last"
    return _text(stated) not in ("channels_first", "NCHW", "NCDHW", "NCW")


def _data(event: Event) -> Operand:
    """Return the first operand that is data."""
    return next(operand for operand in event.operands if operand.id)


def _argument(event: Event, index: int) -> list[int] | None:
    """Return the integers of a small constant operand, or None."""
    value = event.operands[index].value if index < len(event.operands) else None
    return None if value is None else [int(item) for item in value.reshape(-1)]


def _axes(values: Sequence[int], rank: int) -> list[int]:
    return sorted(axis % max(rank, 1) for axis in values)


def _find_weight(event: Event, start: int = 0) -> int | None:
    """Return the position of the first operand from `start` on that is a weight, or None."""
    return next(
        (i for i in range(start, len(event.operands)) if event.operands[i].weight is not None), None
    )


# Convolutions ------------------------------------------------------------------------------------


@reads("conv", "convolve")
def _read_conv(event: Event) -> Reading:
    given = event.arguments
    return _convolution(
        event, _operand(given, "inputs"), _operand(given, "kernel"), given["strides"],
        _text(given["padding"]), given["dilation_rate"], last=_is_last(event),
    )  # fmt: skip


def _operand(given: Mapping[str, Any], name: str) -> Operand:
    """Return an argument that is a tensor; a Keras variable is given as its shape alone."""
    value = given[name]
    if isinstance(value, Operand):
        return value
    return Operand(tuple(value.shape), str(value.dtype))


def _convolution(
    event: Event, data: Operand, kernel: Operand, strides: Any, padding: str, dilations: Any,
    *, last: bool, explicit: Sequence[int] = (), depthwise: bool = False,
) -> Reading:  # fmt: skip
    """Return a convolution whose kernel is (..., I, O), or (..., C, M) of a depthwise one."""
    rank = len(data.shape)
    spatial = rank - 2
    size = kernel.shape[:spatial]
    steps, spread = _values(strides, spatial), _values(dilations, spatial)
    channels = data.shape[-1] if last else data.shape[1]
    if depthwise:
        groups, out = channels, kernel.shape[-2] * kernel.shape[-1]
    else:
        groups, out = channels // kernel.shape[-2], kernel.shape[-1]
    is_depthwise = depthwise or groups == channels > 1
    hyper = {
        "kernel": [int(k) for k in size],
        "stride": steps,
        "padding": _pad_window(data, size, steps, spread, padding, explicit, last=last),
        "dilation": spread,
        "groups": int(groups),
        "bias": False,
        "in": int(channels),
        "out": int(out),
    }
    order = "... C M" if depthwise else "... 1 (C M)" if is_depthwise else "... I O"
    axes = image_axes(rank, last=last)
    return Reading("depthwise_conv" if is_depthwise else "conv", hyper, _kernel_role(event),
                   {"kernel": order}, axes=axes, input_axes=axes)  # fmt: skip


def _kernel_role(event: Event) -> dict[int, str]:
    place = _find_weight(event)
    return {} if place is None else {place: "kernel"}


def _pad_window(
    data: Operand, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
    padding: str, explicit: Sequence[int] = (), *, last: bool,
) -> list[list[int]]:  # fmt: skip
    """Return the elements around the data of this size: [[top, bottom], [left, right]]."""
    spatial = len(data.shape) - 2
    start = 1 if last else 2
    if padding.upper() == "EXPLICIT":
        pairs = [list(explicit[i : i + 2]) for i in range(0, len(explicit), 2)]
        return [[int(each) for each in pair] for pair in pairs[start : start + spatial]]
    if padding.upper() != "SAME":
        return [[0, 0] for _ in range(spatial)]
    sizes = data.shape[start : start + spatial]
    return [
        list(windows.same_padding(n, kernel=k, stride=s, dilation=d))
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]


@reads("depthwise_conv")
def _read_depthwise(event: Event) -> Reading:
    given = event.arguments
    return _convolution(
        event, _operand(given, "inputs"), _operand(given, "kernel"), given["strides"],
        _text(given["padding"]), given["dilation_rate"], last=_is_last(event), depthwise=True,
    )  # fmt: skip


@reads("depthwise_conv2d", "depthwise_conv2d_v2")
def _read_tf_depthwise(event: Event) -> Reading | None:
    given = event.arguments
    if not isinstance(given["padding"], str):
        return None
    strides = [int(each) for each in given["strides"]]
    last = _is_last(event)
    strides = strides[1:3] if last else strides[2:4]
    return _convolution(
        event, _operand(given, "input"), _operand(given, "filter"), strides, given["padding"],
        given["dilations"], last=last, depthwise=True,
    )  # fmt: skip


@reads("Conv2D", "Conv3D", "DepthwiseConv2dNative")
def _read_tf_conv(event: Event) -> Reading:
    given, last = event.arguments, _is_last(event)
    part = slice(1, -1) if last else slice(2, None)
    return _convolution(
        event, event.operands[0], event.operands[1], list(given["strides"])[part],
        _text(given["padding"]), list(given["dilations"])[part], last=last,
        explicit=list(given.get("explicit_paddings") or ()),
        depthwise=event.name.startswith("Depthwise"),
    )  # fmt: skip


@reads("conv_transpose")
def _read_conv_transpose(event: Event) -> Reading:
    given = event.arguments
    return _transposed(
        event, _operand(given, "inputs"), _operand(given, "kernel"), given["strides"],
        _text(given["padding"]), given["dilation_rate"],
    )  # fmt: skip


@reads("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def _read_tf_conv_transpose(event: Event) -> Reading | None:
    given, part = event.arguments, slice(1, -1) if _is_last(event) else slice(2, None)
    padding = _text(given["padding"])
    if padding == "EXPLICIT" or len(event.operands) < 3:
        return None
    strides, dilations = list(given["strides"])[part], list(given["dilations"])[part]
    data, kernel = event.operands[2], event.operands[1]
    reading = _transposed(event, data, kernel, strides, padding, dilations)
    reading.settings = frozenset({0})
    return reading


def _transposed(
    event: Event, data: Operand, kernel: Operand, strides: Any, padding: str, dilations: Any
) -> Reading:
    """Return a transposed convolution, whose kernel is (..., O, I)."""
    last = _is_last(event)
    rank = len(data.shape)
    spatial, start = rank - 2, 1 if last else 2
    size = [int(k) for k in kernel.shape[:spatial]]
    steps, spread = _values(strides, spatial), _values(dilations, spatial)
    output = event.outputs[0].shape
    crop = [
        list(windows.transposed_crop(n, m, kernel=k, stride=s, dilation=d,
                                     same=padding.upper() == "SAME"))
        for n, m, k, s, d in zip(data.shape[start : start + spatial],
                                 output[start : start + spatial], size, steps, spread, strict=True)
    ]  # fmt: skip
    hyper = {
        "kernel": size,
        "stride": steps,
        "padding": crop,
        "dilation": spread,
        "groups": 1,
        "bias": False,
        "in": int(kernel.shape[-1]),
        "out": int(kernel.shape[-2]),
    }
    axes = image_axes(rank, last=last)
    return Reading("conv_transpose", hyper, _kernel_role(event), {"kernel": "... O I"},
                   axes=axes, input_axes=axes)  # fmt: skip


# Products ----------------------------------------------------------------------------------------


@reads("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "matmul", "tensordot")
def _read_product(event: Event) -> Reading | None:
    if len(event.operands) != 2:
        return None
    given = event.arguments
    turned = bool(given.get("transpose_b") or given.get("adj_y"))
    if given.get("transpose_a") or given.get("adj_x"):
        return None
    if event.name == "tensordot" and not _is_plain_tensordot(event):
        return None
    kernel = event.operands[1]
    if kernel.weight is not None and len(kernel.shape) == 2 and event.operands[0].id:
        depth, out = kernel.shape[::-1] if turned else kernel.shape
        hyper = {"bias": False, "in": int(depth), "out": int(out)}
        axes = channels_last(len(event.operands[0].shape))
        order = "O I" if turned else "I O"
        return Reading("dense", hyper, {1: "kernel"}, {"kernel": order}, axes=axes,
                       input_axes=axes)  # fmt: skip
    if event.name == "tensordot" or turned:
        return None
    return Reading("matmul")


def _is_plain_tensordot(event: Event) -> bool:
    axes = event.arguments["axes"]
    if isinstance(axes, Operand):
        return False
    rank = len(event.operands[0].shape)
    if axes == 1:
        return True
    if not isinstance(axes, list | tuple) or len(axes) != 2:
        return False
    one, other = ([int(a) for a in np.atleast_1d(each)] for each in axes)
    return [a % rank for a in one] == [rank - 1] and other == [0]


@reads("einsum", "Einsum")
def _read_einsum(event: Event) -> Reading | None:
    equation = event.arguments.get("subscripts", event.arguments.get("equation"))
    if equation is None:
        return None
    equation = _text(equation).replace(" ", "")
    dense = _read_dense_einsum(event, equation)
    if dense is not None:
        return dense
    place = _find_weight(event)
    roles = {} if place is None else {place: "kernel"}
    return Reading("einsum", {"equation": equation}, roles)


def _read_dense_einsum(event: Event, equation: str) -> Reading | None:
    """Return a product over the last axes of the data with a weight's first or last ones.

    A weight whose inputs or outputs are several axes has them numbered: `I O1 O2`.
    """
    if len(event.operands) != 2 or event.operands[1].weight is None or "->" not in equation:
        return None
    # Keras reshapes the weight inside.
    stated = event.arguments.get("operands", event.operands)
    kernel = stated[1] if isinstance(stated[1], Operand) else event.operands[1]
    (data, weight), output = equation.partition("->")[0].split(","), equation.partition("->")[2]
    shared = [each for each in data.replace(".", "") if each in weight and each not in output]
    made = [each for each in output.replace(".", "") if each in weight and each not in data]
    is_dense = (
        "".join(shared) == data[len(data) - len(shared) :]
        and output == data[: len(data) - len(shared)] + "".join(made)
        and sorted(weight) == sorted([*shared, *made])
        and bool(shared and made)
    )
    if not is_dense:
        return None
    names = {}
    for letter, group in (("I", shared), ("O", made)):
        for number, each in enumerate(group, 1):
            names[each] = letter if len(group) == 1 else f"{letter}{number}"
    shape = dict(zip(weight, kernel.shape, strict=True))
    hyper = {
        "bias": False,
        "in": math.prod(int(shape[each]) for each in shared),
        "out": math.prod(int(shape[each]) for each in made),
    }
    order = " ".join(names[each] for each in weight)
    return Reading("dense", hyper, {1: "kernel"}, {"kernel": order})


@reads("BiasAdd")
def _read_bias_add(event: Event) -> Reading | None:
    if event.operands[1].weight is None:
        return Reading("add", keeps_axes=True)
    axes = image_axes(len(event.operands[0].shape), last=_is_last(event))
    return Reading("bias_add", {}, {1: "bias"}, axes=axes, input_axes=axes)


@reads("AddV2", "Add")
def _read_add(event: Event) -> Reading:
    place = _find_weight(event)
    if place is None:
        return Reading("add", keeps_axes=True)
    return Reading("bias_add", {}, {place: "bias"}, keeps_axes=True)


@reads("Mul")
def _read_multiply(event: Event) -> Reading:
    place = _find_weight(event)
    if place is None:
        return Reading("multiply", keeps_axes=True)
    return Reading("layer_scale", {}, {place: "gamma"}, keeps_axes=True)


@reads("take")
def _read_take(event: Event) -> Reading | None:
    """Keras's function, which counts negative indices from the end."""
    table, rows = event.arguments["x"], event.arguments["indices"]
    axis = event.arguments["axis"]
    if not isinstance(table, Operand) or not isinstance(rows, Operand) or axis is None:
        return None
    if table.weight is not None and axis == 0 and len(event.operands) == 2:
        hyper = {"in": 0, "out": math.prod(table.shape[1:])}
        place = _find_weight(event)
        axes = channels_last(len(rows.shape) + 1) if len(table.shape) == 2 else ""
        roles = {} if place is None else {place: "embeddings"}
        return Reading("embedding", hyper, roles, axes=axes)
    if not table.id or len(rows.shape) != 1 or axis is None:
        return None
    return Reading("gather", {"axis": int(axis) % len(table.shape)}, keeps_axes=True)


@reads("argmax")
def _read_argmax(event: Event) -> Reading | None:
    axis = event.arguments["axis"]
    if axis is None:
        return None
    hyper = {"axis": int(axis) % len(_data(event).shape)}
    return Reading("argmax", {**hyper, "keepdims": bool(event.arguments["keepdims"])})


@reads("GatherV2", "Gather", "ResourceGather")
def _read_gather(event: Event) -> Reading | None:
    table, rows = event.operands[0], event.operands[1]
    axis = _argument(event, 2) or [0]
    if table.weight is not None and axis == [0] and table.weight.is_exact:
        width = event.outputs[0].shape[len(rows.shape) :]
        hyper = {"in": 0, "out": math.prod(width)}
        axes = channels_last(len(rows.shape) + 1) if len(width) == 1 else ""
        return Reading("embedding", hyper, {0: "embeddings"}, axes=axes, settings=frozenset({2}))
    if event.arguments.get("batch_dims") or len(rows.shape) != 1:
        return None
    rank = max(len(table.shape), 1)
    return Reading("gather", {"axis": axis[0] % rank}, settings=frozenset({2}), keeps_axes=True)


# Pools -------------------------------------------------------------------------------------------


@reads("max_pool", "average_pool")
def _read_pool(event: Event) -> Reading:
    given = event.arguments
    kernel, strides = given["pool_size"], given["strides"]
    return _pool(event, kernel, kernel if strides is None else strides, _text(given["padding"]),
                 is_max=event.name == "max_pool", last=_is_last(event))  # fmt: skip


@reads("MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D")
def _read_tf_pool(event: Event) -> Reading | None:
    given, last = event.arguments, _is_last(event)
    if "ksize" not in given:
        return None
    part = slice(1, -1) if last else slice(2, None)
    return _pool(
        event, list(given["ksize"])[part], list(given["strides"])[part], _text(given["padding"]),
        is_max=event.name.startswith("Max"), last=last,
        explicit=list(given.get("explicit_paddings") or ()),
    )  # fmt: skip


def _pool(
    event: Event, kernel: Any, strides: Any, padding: str, *, is_max: bool, last: bool,
    explicit: Sequence[int] = (),
) -> Reading:  # fmt: skip
    data = _data(event)
    spatial = len(data.shape) - 2
    size, steps, ones = _values(kernel, spatial), _values(strides, spatial), [1] * spatial
    pairs = _pad_window(data, size, steps, ones, padding, explicit, last=last)
    hyper: dict[str, Any] = {"kernel": size, "stride": steps, "padding": pairs, "ceil": False}
    if is_max:
        hyper["dilation"] = ones
    elif any(map(any, pairs)):
        # An average counts no padding in TensorFlow.
        hyper["count_padding"] = False
    axes = image_axes(len(data.shape), last=last)
    return Reading("max_pool" if is_max else "avg_pool", hyper, axes=axes, input_axes=axes)


@reads(
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
)  # fmt: skip
def _read_global_pool(event: Event) -> Reading:
    data, last = _data(event), event.layer.data_format == "channels_last"
    rank = len(data.shape)
    kind = "global_avg_pool" if "Average" in event.name else "global_max_pool"
    axes = image_axes(rank if event.layer.keepdims else 2, last=last)
    return Reading(kind, {"size": [1] * (rank - 2)}, axes=axes,
                   input_axes=image_axes(rank, last=last))  # fmt: skip


@reads("adaptive_average_pool", "adaptive_max_pool")
def _read_adaptive_pool(event: Event) -> Reading:
    data = _data(event)
    size = _values(event.arguments["output_size"], len(data.shape) - 2)
    kind = "global_avg_pool" if event.name == "adaptive_average_pool" else "global_max_pool"
    axes = image_axes(len(data.shape), last=_is_last(event))
    return Reading(kind, {"size": size}, axes=axes, input_axes=axes)


# Norms -------------------------------------------------------------------------------------------


def _layer_reading(
    event: Event,
    kind: str,
    hyper: dict[str, Any],
    axes: str,
    names: Mapping[str, str] | None = None,
) -> Reading:
    """Return a layer whose variables have the roles that the kind gives their names.

    `names` are further names, with their roles.
    """
    known = {role.keras: role.name for role in kinds.get(kind).roles if role.keras}
    known |= names or {}
    roles = {
        path: known[name]
        for path in _weight_names(event)
        if (name := _variable_name(path)) in known
    }
    return Reading(kind, hyper, roles_by_name=roles, axes=axes, input_axes=axes)


def _weight_names(event: Event) -> list[str]:
    """Return the names of the weights that an event reads, each once."""
    sources = [operand.weight for operand in event.operands if operand.weight is not None]
    return list(dict.fromkeys(name for source in sources for name in source.names))


def _variable_name(path: str) -> str:
    return path.partition(":")[0].rpartition("/")[2]


@reads("BatchNormalization")
def _read_batch_norm(event: Event) -> Reading:
    rank, axis = len(_data(event).shape), event.layer.axis
    axis = axis[0] if isinstance(axis, list | tuple) else axis
    axes = {rank - 1: channels_last(rank), 1: channels_first(rank)}.get(axis % rank, "")
    hyper = {"epsilon": float(event.layer.epsilon)}
    return _layer_reading(event, "batch_norm", hyper, axes)


@reads("batch_normalization")
def _read_batch_norm_function(event: Event) -> Reading | None:
    """The function of Keras, or of TensorFlow, whose weights have the parameters' names."""
    given = event.arguments
    parts = {"gamma": given.get("scale"), "beta": given.get("offset"), "mean": given.get("mean"),
             "variance": given.get("variance")}  # fmt: skip
    epsilon = given.get("epsilon", given.get("variance_epsilon"))
    if isinstance(epsilon, Operand):
        epsilon = epsilon.value
    roles = {
        part.weight.names[0]: role
        for role, part in parts.items()
        if isinstance(part, Operand) and part.weight is not None
    }
    if {"mean", "variance"} - set(roles.values()) or epsilon is None:
        return None
    rank = len(_data(event).shape)
    axis = given.get("axis", -1)
    axes = {rank - 1: channels_last(rank), 1: channels_first(rank)}.get(axis % rank, "")
    hyper = {"epsilon": float(epsilon)}
    return Reading("batch_norm", hyper, roles_by_name=roles, axes=axes, input_axes=axes)


@reads("LayerNormalization", "RMSNormalization")
def _read_layer_norm(event: Event) -> Reading:
    rank, axis = len(_data(event).shape), event.layer.axis
    normalised = _axes(list(axis) if isinstance(axis, list | tuple) else [axis], rank)
    hyper = {"epsilon": float(event.layer.epsilon), "axes": normalised}
    kind = "layer_norm" if event.name == "LayerNormalization" else "rms_norm"
    axes = channels_last(rank) if normalised == [rank - 1] else ""
    return _layer_reading(event, kind, hyper, axes, {"scale": "gamma"})


@reads("GroupNormalization")
def _read_group_norm(event: Event) -> Reading:
    layer, rank = event.layer, len(_data(event).shape)
    axis = layer.axis % rank
    channels = _data(event).shape[axis]
    groups = channels if layer.groups == -1 else layer.groups
    hyper = {"epsilon": float(layer.epsilon), "groups": int(groups)}
    axes = {rank - 1: channels_last(rank), 1: channels_first(rank)}.get(axis, "")
    return _layer_reading(event, "group_norm", hyper, axes)


@reads("UnitNormalization", "l2_normalize")
def _read_l2(event: Event) -> Reading:
    """Keras divides by the norm; TensorFlow by the root of the larger of the square and epsilon."""
    rank = len(_data(event).shape)
    given = event.arguments
    axis = getattr(event.layer, "axis", -1) if event.name == "UnitNormalization" else given["axis"]
    listed = list(range(rank)) if axis is None else np.atleast_1d(axis).tolist()
    epsilon = 1e-12 if event.name == "UnitNormalization" else given.get("epsilon", 1e-12)
    hyper = {"axes": _axes(listed, rank), "epsilon": math.sqrt(float(epsilon))}
    return Reading("l2_normalize", hyper, keeps_axes=True)


# Recurrent layers --------------------------------------------------------------------------------

_RECURRENT = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
_CELLS = {f"{name}Cell": kind for name, kind in _RECURRENT.items()}
# An LSTM's gates are in PyTorch's order: i, f, g, o.
_GATES = {"lstm": "ifgo", "gru": "zrn"}


@reads("LSTM", "GRU", "SimpleRNN")
def _read_recurrent(event: Event) -> Reading:
    kind = _RECURRENT[event.name]
    hyper = _recurrent_settings(event.layer, kind)
    hyper["reverse"] = bool(event.layer.go_backwards)
    roles = {path: _variable_name(path) for path in _weight_names(event)}
    return _recurrent(kind, hyper, roles, event.layer)


@reads("RNN")
def _read_cells(event: Event) -> Reading:
    """A recurrent layer of any cell; of one that has no kind the weights have roles by name."""
    layer = event.layer
    kind = _CELLS.get(type(layer.cell).__name__, "") if _is_keras(layer.cell) else ""
    roles = {path: _variable_name(path) for path in _weight_names(event)}
    if not kind:
        return Reading(OPAQUE, roles_by_name=roles)
    hyper = _recurrent_settings(layer, kind)
    hyper["reverse"] = bool(layer.go_backwards)
    return _recurrent(kind, hyper, roles, layer.cell)


def _is_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.")


@reads("TimeDistributed")
def _read_time_distributed(event: Event) -> Reading:
    """A dense layer at every time step is the dense layer of the whole sequence."""
    dense = event.layer.layer
    depth, out = dense.kernel.shape
    hyper = {"bias": dense.bias is not None, "in": int(depth), "out": int(out)}
    roles = {path: _variable_name(path) for path in _weight_names(event)}
    axes = channels_last(len(_data(event).shape))
    return Reading("dense", hyper, weight_axes={"kernel": "I O"}, roles_by_name=roles, axes=axes,
                   input_axes=axes)  # fmt: skip


@reads("Bidirectional")
def _read_bidirectional(event: Event) -> Reading:
    forward, backward = event.layer.forward_layer, event.layer.backward_layer
    kind = _RECURRENT[next(name for name in _RECURRENT
                           if isinstance(forward, _keras_layer(name)))]  # fmt: skip
    hyper = {**_recurrent_settings(forward, kind), "bidirectional": True}
    paths = {variable.path for variable in backward.variables}
    roles = {
        path: _variable_name(path) + ("_reverse" if path in paths else "")
        for path in _weight_names(event)
    }
    return _recurrent(kind, hyper, roles, forward)


def _keras_layer(name: str) -> Any:
    import keras

    return getattr(keras.layers, name)


def _recurrent_settings(layer: Any, kind: str) -> dict[str, Any]:
    cell = getattr(layer, "cell", layer)
    hyper: dict[str, Any] = {
        "units": int(cell.units),
        "layers": 1,
        "bidirectional": False,
        "time_major": False,
        "last": not layer.return_sequences,
    }
    if kind in _GATES:
        hyper["gates"] = _GATES[kind]
    if kind == "gru":
        hyper["reset_after"] = bool(cell.reset_after)
    if kind == "rnn":
        hyper["relu"] = _name(cell.activation) == "relu"
    return hyper


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _recurrent(kind: str, hyper: dict[str, Any], roles: Mapping[str, str], layer: Any) -> Reading:
    """Return a recurrent layer; one with other activations than the kind has is opaque."""
    gate = getattr(layer, "recurrent_activation", None)
    is_known = _name(layer.activation) == "tanh" or bool(hyper.get("relu"))
    is_known &= gate is None or _name(gate) == "sigmoid"
    order = {role: "I O" for role in roles.values() if "kernel" in role}
    # Of the input and of the state, with the reset gate behind the product.
    order |= {role: "B C" for role in roles.values() if "bias" in role and hyper.get("reset_after")}
    axes = "N C" if hyper["last"] else "N T C"
    if not is_known:
        kind, hyper = OPAQUE, {}
    return Reading(kind, hyper, weight_axes=order, roles_by_name=roles, axes=axes,
                   input_axes="N T C")  # fmt: skip


@reads("dot_product_attention")
def _read_attention(event: Event) -> Reading | None:
    """Keras's attention over (N, T, heads, C)."""
    given = event.arguments
    hyper: dict[str, Any] = {"causal": bool(given["is_causal"]), "time_before_heads": True}
    scale = given["scale"]
    scale = scale.value if isinstance(scale, Operand) else scale
    if scale is not None:
        hyper["scale"] = float(scale)
    query, key, mask = given["query"], given["key"], given["mask"]
    if given["bias"] is not None and mask is not None:
        return None
    if mask is not None:
        hyper["boolean_mask"] = True
    hyper["grouped"] = query.shape[2] != key.shape[2]
    return Reading("scaled_dot_product_attention", hyper)


# Activations -------------------------------------------------------------------------------------


@reads("gelu")
def _read_gelu(event: Event) -> Reading:
    approximate = bool(event.arguments["approximate"])
    return Reading("gelu", {"approximate": approximate}, keeps_axes=True)


@reads("relu")
def _read_relu(event: Event) -> Reading:
    """Keras's ReLU with its slope, largest value and threshold."""
    given = event.arguments
    slope, threshold = float(given["negative_slope"]), float(given["threshold"])
    largest = given["max_value"]
    if slope == 0 and threshold == 0 and largest is None:
        return Reading("relu", keeps_axes=True)
    if slope == 0 and threshold == 0 and float(largest) == 6:
        return Reading("relu6", keeps_axes=True)
    if threshold == 0 and largest is None:
        return Reading("leaky_relu", {"slope": slope}, keeps_axes=True)
    hyper = {"negative_slope": slope, "threshold": threshold}
    if largest is not None:
        hyper["max_value"] = float(largest)
    return Reading("bounded_relu", hyper, keeps_axes=True)


@reads("leaky_relu", "LeakyRelu")
def _read_leaky_relu(event: Event) -> Reading:
    slope = event.arguments.get("negative_slope", event.arguments.get("alpha", 0.2))
    return Reading("leaky_relu", {"slope": float(slope)}, keeps_axes=True)


@reads("elu", "celu", "Elu")
def _read_elu(event: Event) -> Reading:
    alpha = float(event.arguments.get("alpha", 1.0))
    return Reading("celu" if event.name == "celu" else "elu", {"alpha": alpha}, keeps_axes=True)


@reads("glu", "softmax", "log_softmax", "Softmax", "LogSoftmax", "softmax_v2", "log_softmax_v2")
def _read_softmax(event: Event) -> Reading | None:
    name = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}.get(event.name, event.name)
    axis = event.arguments.get("axis", -1)
    axis = getattr(event.layer, "axis", -1) if event.name == "SoftmaxLayer" else axis
    if axis is None and name.endswith("_v2"):
        axis = -1
    if not isinstance(axis, int):
        return None
    rank = len(_data(event).shape)
    return Reading(name.removesuffix("_v2"), {"axis": axis % rank}, keeps_axes=True)


@reads("PReLU")
def _read_prelu(event: Event) -> Reading:
    axes = channels_last(len(_data(event).shape))
    return _layer_reading(event, "prelu", {}, axes)


@reads("clip", "hard_tanh")
def _read_clip(event: Event) -> Reading | None:
    given = event.arguments
    hyper = {}
    for name, argument in (("low", "x_min"), ("high", "x_max")):
        value = given.get(argument, {"low": -1.0, "high": 1.0}[name])
        value = value.value if isinstance(value, Operand) else value
        if value is None or np.size(value) != 1:
            return None
        hyper[name] = float(np.asarray(value).reshape(()))
    settings = frozenset(i for i, operand in enumerate(event.operands) if not operand.id)
    return Reading("clip", hyper, keeps_axes=True, settings=settings)


# Reductions --------------------------------------------------------------------------------------

_REDUCTIONS = {"Mean": "reduce_mean", "Sum": "reduce_sum", "Max": "reduce_max", "Min": "reduce_min"}


@reads(*_REDUCTIONS)
def _read_reduction(event: Event) -> Reading | None:
    rank = len(event.operands[0].shape)
    axes = _argument(event, 1)
    if axes is None:
        return None
    reduced = _axes(axes, rank)
    # None stand for all of them.
    reduced = [] if len(reduced) == rank else reduced
    hyper = {"axes": reduced, "keepdims": bool(event.arguments.get("keep_dims"))}
    return Reading(_REDUCTIONS[event.name], hyper, settings=frozenset({1}))


@reads("var")
def _read_variance(event: Event) -> Reading:
    given, rank = event.arguments, len(_data(event).shape)
    axis = given["axis"]
    axes = [] if axis is None else _axes(np.atleast_1d(axis).tolist(), rank)
    hyper = {"axes": axes, "keepdims": bool(given["keepdims"]), "correction": 0}
    return Reading("variance", hyper)


@reads("ArgMax", "Cumsum")
def _read_indexed(event: Event) -> Reading | None:
    axis, rank = _argument(event, 1), len(event.operands[0].shape)
    if axis is None or event.arguments.get("exclusive") or event.arguments.get("reverse"):
        return None
    hyper: dict[str, Any] = {"axis": axis[0] % max(rank, 1)}
    if event.name == "ArgMax":
        hyper["keepdims"] = False
    return Reading("argmax" if event.name == "ArgMax" else "cumsum", hyper,
                   settings=frozenset({1}))  # fmt: skip


# Shapes ------------------------------------------------------------------------------------------


@reads("Reshape")
def _read_reshape(event: Event) -> Reading:
    before, after = event.operands[0].shape, event.outputs[0].shape
    settings = frozenset({1})
    if len(before) > 1 and after == (before[0], math.prod(before[1:])):
        return Reading("flatten", settings=settings)
    hyper: dict[str, Any] = {}
    if after[:1] == before[:1]:
        target = [int(n) for n in after[1:]]
        # As the kind has it: an image's channels first.
        hyper["target"] = [target[-1], *target[:-1]] if len(target) == 3 else target
        hyper["channels_last"] = True
    else:
        hyper["full_shape"] = [int(n) for n in after]
    return Reading("reshape", hyper, settings=settings)


@reads("Transpose")
def _read_transpose(event: Event) -> Reading | None:
    perm = _argument(event, 1)
    return None if perm is None else Reading("transpose", {"perm": perm}, settings=frozenset({1}))


@reads("Squeeze")
def _read_squeeze(event: Event) -> Reading:
    shape = event.operands[0].shape
    axes = _axes([int(a) for a in event.arguments.get("squeeze_dims") or ()], len(shape))
    return Reading("squeeze", {"axes": axes or [i for i, n in enumerate(shape) if n == 1]})


@reads("ExpandDims")
def _read_unsqueeze(event: Event) -> Reading | None:
    axis = _argument(event, 1)
    if axis is None:
        return None
    return Reading("unsqueeze", {"axes": _axes(axis, len(event.outputs[0].shape))},
                   settings=frozenset({1}))  # fmt: skip


@reads("BroadcastTo")
def _read_expand(event: Event) -> Reading:
    shape = [int(n) for n in event.outputs[0].shape]
    return Reading("expand", {"full_shape": shape}, settings=frozenset({1}))


@reads("StridedSlice")
def _read_strided_slice(event: Event) -> Reading | None:
    begin, end, strides = (_argument(event, index) for index in (1, 2, 3))
    given, shape = event.arguments, event.operands[0].shape
    if begin is None or end is None or strides is None or given.get("new_axis_mask"):
        return None
    ellipsis = int(given.get("ellipsis_mask") or 0)
    places = list(range(len(begin)))
    if ellipsis:
        at = ellipsis.bit_length() - 1
        missing = len(shape) - (len(begin) - 1)
        places = [p if p < at else p + missing - 1 for p in places]
    parts, squeeze, turned = [], [], []
    for index, axis in enumerate(places):
        if ellipsis >> index & 1:
            continue
        size = shape[axis]
        if int(given.get("shrink_axis_mask") or 0) >> index & 1:
            start = begin[index] % size
            parts.append((axis, start, start + 1, 1))
            squeeze.append(axis)
            continue
        first = None if int(given.get("begin_mask") or 0) >> index & 1 else begin[index]
        last = None if int(given.get("end_mask") or 0) >> index & 1 else end[index]
        start, stop, step = slice(first, last, strides[index]).indices(size)
        if step < 0:
            if (start, stop, step) != (size - 1, -1, -1):
                return None
            turned.append(axis)
            continue
        if (start, stop, step) != (0, size, 1):
            parts.append((axis, start, max(stop, start), step))
    settings = frozenset({1, 2, 3})
    if not turned:
        return _slice(parts, squeeze, settings)
    if parts or squeeze:
        return None
    return Reading("flip", {"axes": turned}, keeps_axes=True, settings=settings)


def _slice(
    parts: Sequence[tuple[int, int, int, int]], squeeze: list[int], settings: frozenset[int]
) -> Reading:
    hyper: dict[str, Any] = {
        name: [part[index] for part in parts]
        for index, name in enumerate(("axes", "starts", "ends", "steps"))
    }
    return Reading("slice", {**hyper, "squeeze": squeeze}, settings=settings,
                   keeps_axes=not squeeze)  # fmt: skip


@reads("Slice")
def _read_slice(event: Event) -> Reading | None:
    begin, shape = _argument(event, 1), event.operands[0].shape
    if begin is None:
        return None
    out = event.outputs[0].shape
    parts = [
        (axis, start, start + made, 1)
        for axis, (start, made, size) in enumerate(zip(begin, out, shape, strict=True))
        if (start, made) != (0, size)
    ]
    return _slice(parts, [], frozenset({1, 2}))


@reads("Split", "SplitV", "Unpack")
def _read_split(event: Event) -> Reading | None:
    """`Unpack` also removes the axis."""
    if event.name == "Unpack":
        rank = len(event.operands[0].shape)
        axis = int(event.arguments.get("axis") or 0) % rank
        return Reading("split", {"axis": axis, "sizes": [1] * len(event.outputs)})
    place = 0 if event.name == "Split" else 2
    stated = _argument(event, place)
    if stated is None:
        return None
    data = _data(event)
    axis = stated[0] % len(data.shape)
    sizes = [int(output.shape[axis]) for output in event.outputs]
    settings = frozenset({0} if event.name == "Split" else {1, 2})
    return Reading("split", {"axis": axis, "sizes": sizes}, settings=settings, keeps_axes=True)


@reads("ConcatV2", "Pack")
def _read_concat(event: Event) -> Reading | None:
    rank = len(event.outputs[0].shape)
    if event.name == "Pack":
        return Reading("stack", {"axis": int(event.arguments.get("axis") or 0) % rank})
    last = len(event.operands) - 1
    axis = _argument(event, last)
    if axis is None:
        return None
    hyper = {"axis": axis[0] % rank}
    return Reading("concat", hyper, settings=frozenset({last}), keeps_axes=True)


@reads("Pad", "PadV2", "MirrorPad")
def _read_pad(event: Event) -> Reading | None:
    """An image's channels, the last axis, are left out where they are not padded."""
    flat = _argument(event, 1)
    if flat is None:
        return None
    pairs = [flat[i : i + 2] for i in range(0, len(flat), 2)]
    hyper: dict[str, Any] = {"mode": "constant", "value": 0.0}
    if event.name == "MirrorPad":
        if _text(event.arguments["mode"]) != "REFLECT":
            return None
        hyper = {"mode": "reflect"}
    elif event.name == "PadV2":
        value = event.operands[2].value
        if value is None:
            return None
        hyper["value"] = float(value)
    axes = ""
    if len(pairs) > 2 and not any(pairs[0]):
        if not any(pairs[-1]):
            pairs, axes = pairs[1:-1], channels_last(len(pairs))
        elif not any(pairs[1]):
            pairs, axes = pairs[2:], channels_first(len(pairs))
    return Reading("pad", {"padding": pairs, **hyper}, axes=axes, input_axes=axes,
                   settings=frozenset({1, 2}))  # fmt: skip


@reads("roll", "Roll")
def _read_roll(event: Event) -> Reading | None:
    rank = len(_data(event).shape)
    if event.name == "Roll":
        shifts, axes = _argument(event, 1), _argument(event, 2)
    else:
        shifts, axes = (
            None if each is None or isinstance(each, Operand) else np.atleast_1d(each).tolist()
            for each in (event.arguments["shift"], event.arguments["axis"])
        )
    if shifts is None or axes is None:
        return None
    hyper = {"shifts": [int(s) for s in shifts], "axes": [int(a) % rank for a in axes]}
    return Reading("roll", hyper, keeps_axes=True, settings=frozenset({1, 2}))


@reads("ReverseV2")
def _read_flip(event: Event) -> Reading | None:
    axes = _argument(event, 1)
    if axes is None:
        return None
    hyper = {"axes": _axes(axes, len(event.operands[0].shape))}
    return Reading("flip", hyper, keeps_axes=True, settings=frozenset({1}))


@reads("Tile")
def _read_tile(event: Event) -> Reading | None:
    repeats = _argument(event, 1)
    if repeats is None:
        return None
    return Reading("tile", {"repeats": repeats}, keeps_axes=True, settings=frozenset({1}))


@reads("DepthToSpace", "SpaceToDepth")
def _read_blocks(event: Event) -> Reading:
    """TensorFlow's channels are block-major, PyTorch's and the kind's channel-major."""
    last = _is_last(event)
    axes = image_axes(4, last=last)
    kind = "depth_to_space" if event.name == "DepthToSpace" else "space_to_depth"
    hyper = {"block": int(event.arguments["block_size"]), "block_major": True}
    return Reading(kind, hyper, axes=axes, input_axes=axes)


@reads("Cast")
def _read_cast(event: Event) -> Reading:
    return Reading("cast", {"dtype": event.outputs[0].dtype}, keeps_axes=True)


@reads("UpSampling1D", "UpSampling2D", "UpSampling3D")
def _read_upsampling(event: Event) -> Reading:
    layer, rank = event.layer, len(_data(event).shape)
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    mode = getattr(layer, "interpolation", "nearest")
    scale = [float(each) for each in _values(layer.size, rank - 2)]
    mode = "keys_bicubic" if mode == "bicubic" else mode
    axes = image_axes(rank, last=last)
    hyper = {"scale": scale, "mode": mode, "align_corners": False}
    return Reading("upsample", hyper, axes=axes, input_axes=axes)


@reads("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
def _read_resize(event: Event) -> Reading:
    """Resizes whose corners are aligned, or whose pixels have their centres at halves, are those
    of PyTorch; TensorFlow 1's own are neither."""
    size = [int(n) for n in event.outputs[0].shape[1:3]]
    given = event.arguments
    half = bool(given.get("half_pixel_centers"))
    mode = {"ResizeBilinear": "bilinear", "ResizeBicubic": "bicubic"}.get(event.name, "nearest")
    hyper: dict[str, Any] = {"size": size, "align_corners": bool(given.get("align_corners"))}
    if mode == "nearest":
        mode = "nearest_exact" if half else "nearest"
    elif not half and not hyper["align_corners"]:
        mode = f"corner_{mode}"
    elif mode == "bicubic" and half:
        # PyTorch's coefficient of the cubic is −0.75, Keys's −0.5.
        mode = "keys_bicubic"
    axes = channels_last(4)
    return Reading("upsample", {"mode": mode, **hyper}, axes=axes, input_axes=axes,
                   settings=frozenset({1}))  # fmt: skip
