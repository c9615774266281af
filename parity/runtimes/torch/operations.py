"""What a recorded call of PyTorch is: its kind, hyperparameters, weights, and operands in order."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from parity.network import kinds
from parity.network.graph import OPAQUE
from parity.network.kind import Kind
from parity.network.kinds.recurrent import MAX_LAYERS
from parity.runtimes.torch.recorder import Call, Operand

Arguments = Mapping[str, Any]


@dataclass
class Operation:
    """A call as its kind has it.

    `operands` are the tensors and numbers that the kind's operator takes, in its order; `weights`
    those that have a role in it. `axes` names the axes of the first output, where the kind states
    them; `keeps_axes` is set where they are those of the first operand.
    """

    kind: str
    hyper: dict[str, Any] = field(default_factory=dict)
    operands: list[Any] = field(default_factory=list)
    weights: dict[str, Operand] = field(default_factory=dict)
    axes: str = ""
    input_axes: str = ""
    keeps_axes: bool = False


Reader = Callable[[str, Arguments], Operation | None]
"""From a function's name and its arguments to what it is; None where no kind has it."""

_READERS: dict[str, Reader] = {}


def reads(names: str) -> Callable[[Reader], Reader]:
    """Register the reader of the functions of these names."""

    def register(reader: Reader) -> Reader:
        _READERS.update(dict.fromkeys(names.split(), reader))
        return reader

    return register


def describe(call: Call, *, axes: str = "") -> Operation:
    """Return what a call is; `axes` are those of its first operand, where they are known.

    What no kind has is opaque.
    """
    if call.is_opaque:
        return Operation(OPAQUE)
    reader = _READERS.get(call.name)
    operation: Operation | None = None
    if reader is not None:
        operation = reader(call.name, {**call.arguments, "_axes": axes})
    elif (kind := _find_kind(call.name, {})) is not None and not kind.roles:
        operation = Operation(kind.name, {}, _first(call.arguments), keeps_axes=True)
    if operation is None:
        return Operation(OPAQUE)
    return operation


def _first(arguments: Arguments) -> list[Any]:
    return [arguments["input"]] if "input" in arguments else []


def _find_kind(name: str, hyper: Mapping[str, Any]) -> Kind | None:
    """Return the kind of a function with these hyperparameters, those with a condition first."""
    for kind in _kinds_of(name):
        if kind.condition is None or kind.condition(hyper):
            return kind
    return None


@functools.cache
def _kinds_of(name: str) -> tuple[Kind, ...]:
    """Return the kinds that name a function, those with a condition and with fewer roles first."""
    found = [kind for kind in kinds.registry().values() if name in kind.torch_functions]
    return tuple(sorted(found, key=lambda kind: (kind.condition is None, len(kind.roles))))


# Axes --------------------------------------------------------------------------------------------

_SPATIAL = {1: "T", 2: "H W", 3: "D H W"}


def channels_first(rank: int) -> str:
    """Return the axes of a tensor whose channels are axis 1."""
    if rank == 2:
        return "N C"
    return f"N C {_SPATIAL[rank - 2]}" if rank - 2 in _SPATIAL else ""


def channels_last(rank: int) -> str:
    """Return the axes of a tensor whose channels are the last axis."""
    if rank == 2:
        return "N C"
    return f"N {_SPATIAL[rank - 2]} C" if rank - 2 in _SPATIAL else ""


@functools.cache
def split_axes(axes: str) -> tuple[str, ...]:
    """Return the names of the axes, one that joins several in parentheses."""
    found: list[str] = []
    for token in axes.split():
        if found and found[-1].count("(") > found[-1].count(")"):
            found[-1] += f" {token}"
        else:
            found.append(token)
    return tuple(found)


def _shape(operand: Any) -> tuple[int, ...]:
    return tuple(operand.tensor.shape)


def _axis(value: int, rank: int) -> int:
    return int(value) % max(rank, 1)


def _axes_list(value: Any, rank: int) -> list[int]:
    """Return axes from 0, in order; none given are none."""
    if value is None:
        return []
    values = value if isinstance(value, tuple | list) else (value,)
    return sorted(_axis(item, rank) for item in values if item is not None)


def _per_axis(value: Any, count: int) -> list[int]:
    values = list(value) if isinstance(value, tuple | list) else [value]
    values = values * count if len(values) == 1 else values
    return [int(item) for item in values]


# Convolutions, dense layers, pools ---------------------------------------------------------------


@reads("conv1d conv2d conv3d")
def _conv(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    kernel = _shape(given["weight"])
    dilation = _per_axis(given.get("dilation", 1), rank - 2)
    groups = int(given.get("groups", 1))
    padding = given.get("padding", 0)
    if padding == "valid":
        pairs = [[0, 0]] * (rank - 2)
    elif padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel[2:], strict=True)]
        pairs = [[total // 2, total - total // 2] for total in totals]
    else:
        pairs = [[p, p] for p in _per_axis(padding, rank - 2)]
    hyper = {
        "kernel": list(kernel[2:]),
        "stride": _per_axis(given.get("stride", 1), rank - 2),
        "padding": pairs,
        "dilation": dilation,
        "groups": groups,
        "bias": given.get("bias") is not None,
        "in": kernel[1] * groups,
        "out": kernel[0],
    }
    return _layer(name, hyper, given, "weight=kernel bias=bias", channels_first(rank))


@reads("conv_transpose1d conv_transpose2d conv_transpose3d")
def _conv_transpose(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    kernel, groups = _shape(given["weight"]), int(given.get("groups", 1))
    padding = _per_axis(given.get("padding", 0), rank - 2)
    more = _per_axis(given.get("output_padding", 0), rank - 2)
    hyper = {
        "kernel": list(kernel[2:]),
        "stride": _per_axis(given.get("stride", 1), rank - 2),
        "padding": [[p, p - extra] for p, extra in zip(padding, more, strict=True)],
        "dilation": _per_axis(given.get("dilation", 1), rank - 2),
        "groups": groups,
        "bias": given.get("bias") is not None,
        "in": kernel[0],
        "out": kernel[1] * groups,
    }
    return _layer(name, hyper, given, "weight=kernel bias=bias", channels_first(rank))


def _layer(
    name: str, hyper: dict[str, Any], given: Arguments, roles: str, axes: str = "",
    *, input_axes: str | None = None,
) -> Operation:  # fmt: skip
    """Return a layer of one input whose weights are the arguments in `roles`, `weight=kernel`."""
    kind = _find_kind(name, hyper)
    weights = {}
    for pair in roles.split():
        argument, role = pair.split("=")
        if isinstance(given.get(argument), Operand):
            weights[role] = given[argument]
    read = axes if input_axes is None else input_axes
    found = kind.name if kind is not None else OPAQUE
    if len(split_axes(axes)) != given["input"].tensor.ndim and input_axes is None:
        axes = read = ""
    return Operation(found, hyper, [given["input"]], weights, axes, read)


@reads("linear")
def _linear(name: str, given: Arguments) -> Operation:
    out, depth = _shape(given["weight"])
    hyper = {"bias": given.get("bias") is not None, "in": depth, "out": out}
    axes = channels_last(given["input"].tensor.ndim)
    return _layer(name, hyper, given, "weight=kernel bias=bias", axes)


@reads("matmul bmm mm")
def _matmul(name: str, given: Arguments) -> Operation:
    one, other = given["input"], given["other"]
    if isinstance(other, Operand) and other.weights is not None and other.tensor.ndim == 2:
        return _dense(one, other, None)
    return Operation("matmul", {}, [one, other])


@reads("addmm")
def _addmm(name: str, given: Arguments) -> Operation | None:
    if given["weight"].weights is None or {"beta", "alpha"} & set(given):
        return None
    return _dense(given["input"], given["weight"], given["bias"])


def _dense(data: Operand, kernel: Operand, bias: Any) -> Operation:
    """Return the dense layer of a product with a weight (I, O)."""
    depth, out = _shape(kernel)
    source = kernel.weights
    # The canonical order is (O, I).
    order = None if source is None or source.order is None else source.order[::-1]
    turned = Operand(
        kernel.tensor.mT, weights=None if source is None else type(source)(source.names, order)
    )
    weights = {"kernel": turned, **({"bias": bias} if bias is not None else {})}
    axes = channels_last(data.tensor.ndim)
    hyper = {"bias": bias is not None, "in": depth, "out": out}
    return Operation("dense", hyper, [data], weights, axes, axes)


@reads("embedding")
def _embedding(name: str, given: Arguments) -> Operation:
    rows, width = _shape(given["weight"])
    axes = channels_last(given["input"].tensor.ndim + 1)
    roles = "weight=embeddings"
    return _layer(name, {"in": rows, "out": width}, given, roles, axes, input_axes="")


@reads("max_pool1d max_pool2d max_pool3d")
def _max_pool(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    hyper = _window(given, rank)
    hyper["dilation"] = _per_axis(given.get("dilation", 1), rank - 2)
    return _layer(name, hyper, given, "", channels_first(rank))


@reads("avg_pool1d avg_pool2d avg_pool3d")
def _avg_pool(name: str, given: Arguments) -> Operation | None:
    if given.get("divisor_override") is not None:
        return None
    rank = int(name[-2]) + 2
    hyper = _window(given, rank)
    if any(map(any, hyper["padding"])):
        hyper["count_padding"] = bool(given.get("count_include_pad", True))
    return _layer(name, hyper, given, "", channels_first(rank))


def _window(given: Arguments, rank: int) -> dict[str, Any]:
    kernel = _per_axis(given["kernel_size"], rank - 2)
    stride = given.get("stride")
    # An empty stride is the kernel's size.
    stride = kernel if stride is None or stride in ((), []) else _per_axis(stride, rank - 2)
    padding = _per_axis(given.get("padding", 0), rank - 2)
    return {
        "kernel": kernel,
        "stride": stride,
        "padding": [[p, p] for p in padding],
        "ceil": bool(given.get("ceil_mode", False)),
    }


@reads(
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"
)
def _adaptive_pool(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    size, shape = given["output_size"], _shape(given["input"])[2 - rank :]
    sizes = list(size) if isinstance(size, tuple | list) else [size] * (rank - 2)
    sizes = sizes * (rank - 2) if len(sizes) == 1 else sizes
    found = [int(old if new is None else new) for new, old in zip(sizes, shape, strict=True)]
    return _layer(name, {"size": found}, given, "", channels_first(rank))


# Norms -------------------------------------------------------------------------------------------

_AFFINE = "weight=gamma bias=beta"


@reads("batch_norm")
def _batch_norm(name: str, given: Arguments) -> Operation | None:
    if given.get("running_mean") is None:
        # It normalises by the batch: in inference, too.
        return None
    roles = f"{_AFFINE} running_mean=mean running_var=variance"
    axes = channels_first(given["input"].tensor.ndim)
    return _layer(name, {"epsilon": float(given.get("eps", 1e-5))}, given, roles, axes)


@reads("instance_norm")
def _instance_norm(name: str, given: Arguments) -> Operation | None:
    if given.get("use_input_stats") is False:
        return _batch_norm("batch_norm", given)
    axes = channels_first(given["input"].tensor.ndim)
    return _layer(name, {"epsilon": float(given.get("eps", 1e-5))}, given, _AFFINE, axes)


@reads("layer_norm rms_norm")
def _layer_norm(name: str, given: Arguments) -> Operation:
    rank, count = given["input"].tensor.ndim, len(given["normalized_shape"])
    epsilon = given.get("eps", 1e-5 if name.startswith("layer") else None)
    if epsilon is None:
        # PyTorch's own default of an RMS-norm is the epsilon of the data's type.
        epsilon = torch.finfo(given["input"].tensor.dtype).eps
    hyper = {"epsilon": float(epsilon), "axes": list(range(rank - count, rank))}
    axes = channels_last(rank) if count == 1 else given["_axes"]
    return _layer(name, hyper, given, _AFFINE, axes, input_axes=axes)


@reads("group_norm")
def _group_norm(name: str, given: Arguments) -> Operation:
    hyper = {"epsilon": float(given.get("eps", 1e-5)), "groups": int(given["num_groups"])}
    axes = channels_first(given["input"].tensor.ndim)
    return _layer(name, hyper, given, _AFFINE, axes)


@reads("normalize")
def _normalize(name: str, given: Arguments) -> Operation | None:
    if given.get("p", 2.0) != 2:
        return None
    axes = _axes_list(given.get("dim", 1), given["input"].tensor.ndim)
    hyper = {"axes": axes, "epsilon": float(given.get("eps", 1e-12))}
    return Operation("l2_normalize", hyper, [given["input"]], keeps_axes=True)


# Recurrent layers, attention ---------------------------------------------------------------------


@reads("lstm gru rnn_tanh rnn_relu")
def _recurrent(name: str, given: Arguments) -> Operation:
    """A call on a packed sequence has other arguments, and is opaque; its weights have roles."""
    packed = "train" in given and not isinstance(given["train"], bool)
    packed = packed or not isinstance(given.get("has_biases"), bool)
    if packed:
        values = list(given.values())
        flat, has_biases, layers = values[3], values[4], values[5]
        bidirectional, batch_first = values[8], False
    else:
        flat, has_biases, layers = given["params"], given["has_biases"], given["num_layers"]
        bidirectional, batch_first = given["bidirectional"], given["batch_first"]
    directions = 2 if bidirectional else 1
    per_layer = len(flat) // max(layers * directions, 1)
    is_projected = per_layer not in (2, 4)
    roles = _recurrent_roles(flat, layers, directions, per_layer, biases=has_biases)
    data = given["input"]
    hyper = {
        "units": _shape(flat[1])[-1],
        "layers": int(layers),
        "bidirectional": bool(bidirectional),
        "time_major": not batch_first,
    }
    if name.startswith("rnn"):
        hyper["relu"] = name == "rnn_relu"
    states = given.get("hx")
    states = [states] if isinstance(states, Operand) else list(states or ())
    states = [state for state in states if not _is_zero(state)]
    plain = not packed and not is_projected and layers <= MAX_LAYERS and data.tensor.ndim == 3
    kind = _find_kind(name, {})
    axes = "N T C" if batch_first else "T N C"
    found = kind.name if kind is not None and plain else OPAQUE
    axes = axes if plain else ""
    return Operation(found, hyper, [data, *states], roles, axes, axes)


def _recurrent_roles(
    flat: Sequence[Operand], layers: int, directions: int, per_layer: int, *, biases: bool
) -> dict[str, Operand]:
    """Return the weights by role, as `parity.network.kinds.recurrent` numbers them."""
    names = ["kernel", "recurrent_kernel"] + (["bias", "recurrent_bias"] if biases else [])
    found = {}
    for layer in range(layers):
        for direction in range(directions):
            start = (layer * directions + direction) * per_layer
            suffix = (f"_l{layer}" if layer else "") + ("_reverse" if direction else "")
            part = flat[start : start + len(names)]
            found.update({f"{n}{suffix}": w for n, w in zip(names, part, strict=True)})
    return found


def _is_zero(operand: Operand) -> bool:
    return operand.is_constant and not bool(operand.tensor.any())


@reads("scaled_dot_product_attention")
def _scaled_dot_product(name: str, given: Arguments) -> Operation:
    mask, scale = given.get("attn_mask"), given.get("scale")
    hyper: dict[str, Any] = {
        "causal": bool(given.get("is_causal", False)),
        "grouped": bool(given.get("enable_gqa", False)),
    }
    operands = [given["query"], given["key"], given["value"]]
    if scale is not None:
        hyper["scale"] = float(scale)
    if mask is not None:
        operands.append(mask)
        hyper["boolean_mask"] = mask.tensor.dtype == torch.bool
    return Operation(name, hyper, operands)


_PROJECTIONS = {
    "in_proj_weight": "packed_kernel",
    "in_proj_bias": "packed_bias",
    "q_proj_weight": "query_kernel",
    "k_proj_weight": "key_kernel",
    "v_proj_weight": "value_kernel",
    "out_proj_weight": "output_kernel",
    "out_proj_bias": "output_bias",
}


@reads("multi_head_attention_forward")
def _multi_head(name: str, given: Arguments) -> Operation:
    weights = {
        role: given[argument]
        for argument, role in _PROJECTIONS.items()
        if isinstance(given.get(argument), Operand)
    }
    operands = [given["query"], given["key"], given["value"]]
    mask, ignored = given.get("attn_mask"), given.get("key_padding_mask")
    hyper: dict[str, Any] = {
        "heads": int(given["num_heads"]),
        # With a mask, `is_causal` says what the mask is.
        "causal": bool(given.get("is_causal", False)) and mask is None,
        "time_major": True,
    }
    if mask is not None:
        operands.append(mask)
        hyper["boolean_mask"] = mask.tensor.dtype == torch.bool
    if ignored is not None:
        operands.append(ignored)
    # What the kind's operator does not have.
    other = given.get("bias_k") is not None or given.get("add_zero_attn") or ignored is not None
    axes = "T N C" if operands[0].tensor.ndim == 3 else ""
    other = other or not axes
    return Operation(
        OPAQUE if other else "multi_head_attention", hyper, operands, weights, axes, axes
    )


# Arithmetic --------------------------------------------------------------------------------------


@reads("add")
def _add(name: str, given: Arguments) -> Operation | None:
    if given.get("alpha", 1) != 1:
        return None
    return _with_weight("bias_add", "bias", given) or _broadcast("add", given)


@reads("mul")
def _mul(name: str, given: Arguments) -> Operation:
    return _with_weight("layer_scale", "gamma", given) or _broadcast("multiply", given)


def _with_weight(kind: str, role: str, given: Arguments) -> Operation | None:
    """Return the sum or the product with a weight, where one of the two is made of weights."""
    pair = [given["input"], given["other"]]
    for data, weight in (pair, pair[::-1]):
        if not isinstance(data, Operand) or not isinstance(weight, Operand):
            continue
        if weight.weights is not None and data.id:
            return Operation(kind, {}, [data], {role: weight}, keeps_axes=True)
    return None


def _broadcast(kind: str, given: Arguments) -> Operation:
    return Operation(kind, {}, [given["input"], given["other"]], keeps_axes=True)


@reads(
    "sub div floor_divide remainder pow maximum minimum eq ne lt le gt ge logical_and logical_or"
)
def _binary(name: str, given: Arguments) -> Operation | None:
    kind = _find_kind(name, {})
    if kind is None or given.get("alpha", 1) != 1 or given.get("rounding_mode") is not None:
        return None
    return _broadcast(kind.name, given)


@reads("where")
def _where(name: str, given: Arguments) -> Operation | None:
    if "input" not in given or "other" not in given:
        return None
    operands = [given["condition"], given["input"], given["other"]]
    return Operation("where", {}, operands, keeps_axes=True)


@reads("masked_fill")
def _masked_fill(name: str, given: Arguments) -> Operation:
    data, mask = given["input"], given["mask"]
    value = given["value"]
    return Operation("where", {}, [mask, value, data], keeps_axes=True)


@reads("clamp clip clamp_min clamp_max hardtanh relu6")
def _clip(name: str, given: Arguments) -> Operation | None:
    if name == "hardtanh":
        low, high = given.get("min_val", -1.0), given.get("max_val", 1.0)
    elif name == "relu6":
        low, high = 0.0, 6.0
    else:
        low, high = given.get("min"), given.get("max")
    if isinstance(low, Operand) or isinstance(high, Operand):
        return None
    if (low, high) == (0, 6):
        return Operation("relu6", {}, [given["input"]], keeps_axes=True)
    hyper = {n: float(v) for n, v in (("low", low), ("high", high)) if v is not None}
    return Operation("clip", hyper, [given["input"]], keeps_axes=True)


@reads("softmax log_softmax glu cumsum")
def _along_axis(name: str, given: Arguments) -> Operation | None:
    dim = given.get("dim")
    if dim is None:
        dim = -1 if name == "glu" else None
    if dim is None:
        return None
    hyper = {"axis": _axis(dim, given["input"].tensor.ndim)}
    return Operation(name, hyper, [given["input"]], keeps_axes=True)


@reads("leaky_relu elu celu gelu softplus prelu hardsigmoid")
def _activation(name: str, given: Arguments) -> Operation | None:
    kind = _find_kind(name, {})
    if kind is None:
        return None
    hyper: dict[str, Any] = {}
    if name == "leaky_relu":
        hyper["slope"] = float(given.get("negative_slope", 0.01))
    elif name in ("elu", "celu"):
        if given.get("scale", 1) != 1 or given.get("input_scale", 1) != 1:
            return None
        hyper["alpha"] = float(given.get("alpha", 1.0))
    elif name == "gelu":
        hyper["approximate"] = given.get("approximate", "none") == "tanh"
    elif name == "softplus":
        hyper["beta"] = float(given.get("beta", 1.0))
    operation = Operation(kind.name, hyper, [given["input"]], keeps_axes=True)
    if name == "prelu":
        operation.weights["alpha"] = given["weight"]
    return operation


# Reductions --------------------------------------------------------------------------------------


@reads("mean sum amax amin norm var max min")
def _reduce(name: str, given: Arguments) -> Operation | None:
    data, rank = given["input"], given["input"].tensor.ndim
    if isinstance(given.get("dim"), Operand) or "other" in given:
        # The larger of two tensors.
        operands = [data, given.get("other", given.get("dim"))]
        return Operation(f"{name}imum", {}, operands, keeps_axes=True)
    if name in ("max", "min") and given.get("dim") is not None:
        return None
    axes, keep = _axes_list(given.get("dim"), rank), bool(given.get("keepdim", False))
    if name == "mean":
        spatial = {"N C H W": [2, 3], "": [2, 3], "N H W C": [1, 2]}.get(given["_axes"])
        if rank == 4 and axes == spatial:
            image = given["_axes"] or channels_first(4)
            size = {"size": [1, 1]}
            left = image if keep else "N C"
            return Operation("global_avg_pool", size, [data], {}, left, image)
    if name == "norm" and given.get("p", 2) not in (None, 2, 2.0, "fro"):
        return None
    hyper: dict[str, Any] = {"axes": axes, "keepdims": keep}
    kind = {"var": "variance", "norm": "reduce_l2"}.get(name, f"reduce_{name.removeprefix('a')}")
    if name == "var":
        if "correction" in given:
            hyper["correction"] = int(given["correction"])
        else:
            hyper["correction"] = int(bool(given.get("unbiased", True)))
    left = given["_axes"] if keep else _without(given["_axes"], axes or range(rank))
    return Operation(kind, hyper, [data], axes=left)


def _without(axes: str, removed: Sequence[int]) -> str:
    return " ".join(name for index, name in enumerate(split_axes(axes)) if index not in removed)


@reads("argmax")
def _argmax(name: str, given: Arguments) -> Operation | None:
    if given.get("dim") is None:
        return None
    axis = _axis(given["dim"], given["input"].tensor.ndim)
    return Operation("argmax", {"axis": axis, "keepdims": bool(given.get("keepdim", False))},
                     [given["input"]])  # fmt: skip


# Shapes ------------------------------------------------------------------------------------------


@reads("cat concat concatenate stack")
def _join(name: str, given: Arguments) -> Operation:
    parts = list(given["tensors"])
    rank = parts[0].tensor.ndim
    kind = "stack" if name == "stack" else "concat"
    axis = _axis(given.get("dim", 0), rank + (kind == "stack"))
    return Operation(kind, {"axis": axis}, parts, keeps_axes=kind == "concat")


@reads("reshape view flatten unflatten view_as reshape_as")
def _reshape(name: str, given: Arguments) -> Operation | None:
    # The output's shape says it all: it is filled in by `complete`.
    if (
        isinstance(given.get("shape"), tuple)
        and given["shape"]
        and isinstance(given["shape"][0], torch.dtype)
    ):
        return None
    return Operation("reshape", {}, [given["input"]])


@reads("transpose swapaxes permute movedim moveaxis t")
def _transpose(name: str, given: Arguments) -> Operation:
    data = given["input"]
    rank = data.tensor.ndim
    order = list(range(rank))
    if name == "permute":
        order = [_axis(axis, rank) for axis in given["dims"]]
    elif name == "t":
        order.reverse()
    elif name.startswith("move"):
        source, target = (
            [value] if isinstance(value, int) else list(value)
            for value in (given["source"], given["destination"])
        )
        source, target = ([_axis(a, rank) for a in axes] for axes in (source, target))
        rest = iter(axis for axis in range(rank) if axis not in source)
        order = [source[target.index(i)] if i in target else next(rest) for i in range(rank)]
    else:
        one = _axis(given.get("dim0", given.get("axis0", 0)), rank)
        other = _axis(given.get("dim1", given.get("axis1", 1)), rank)
        order[one], order[other] = other, one
    return _permuted(data, order, given["_axes"])


def _permuted(data: Operand, order: list[int], axes: str) -> Operation:
    names = split_axes(axes)
    moved = " ".join(names[axis] for axis in order) if len(names) == len(order) else ""
    return Operation("transpose", {"perm": order}, [data], axes=moved)


@reads("squeeze")
def _squeeze(name: str, given: Arguments) -> Operation | None:
    shape = _shape(given["input"])
    wanted = given.get("dim")
    axes = list(range(len(shape))) if wanted is None else _axes_list(wanted, len(shape))
    axes = [axis for axis in axes if shape[axis] == 1]
    left = _without(given["_axes"], axes)
    return Operation("squeeze", {"axes": axes}, [given["input"]], axes=left)


@reads("unsqueeze")
def _unsqueeze(name: str, given: Arguments) -> Operation:
    axis = _axis(given["dim"], given["input"].tensor.ndim + 1)
    return Operation("unsqueeze", {"axes": [axis]}, [given["input"]])


@reads("expand broadcast_to expand_as")
def _expand(name: str, given: Arguments) -> Operation:
    # The shape is filled in by `complete`.
    return Operation("expand", {}, [given["input"]], keeps_axes=True)


@reads("repeat tile")
def _tile(name: str, given: Arguments) -> Operation:
    repeats = given.get("repeats", given.get("dims"))
    repeats = [int(item) for item in (repeats if isinstance(repeats, tuple | list) else [repeats])]
    rank = given["input"].tensor.ndim
    repeats = [1] * (rank - len(repeats)) + repeats
    return Operation("tile", {"repeats": repeats}, [given["input"]])


@reads("narrow select")
def _narrow(name: str, given: Arguments) -> Operation | None:
    data, rank = given["input"], given["input"].tensor.ndim
    axis = _axis(given["dim"], rank)
    size = _shape(data)[axis]
    start = given["start"] if name == "narrow" else given["index"]
    if isinstance(start, Operand):
        return None
    start = int(start) % size
    end = start + (int(given["length"]) if name == "narrow" else 1)
    squeeze = [axis] if name == "select" else []
    return _sliced(data, [(axis, start, end, 1)], squeeze, given["_axes"])


def _sliced(
    data: Operand, parts: Sequence[tuple[int, int, int, int]], squeeze: list[int], axes: str
) -> Operation:
    hyper: dict[str, Any] = {
        name: [part[index] for part in parts]
        for index, name in enumerate(("axes", "starts", "ends", "steps"))
    }
    return Operation("slice", {**hyper, "squeeze": squeeze}, [data], axes=_without(axes, squeeze))


@reads("getitem")
def _getitem(name: str, given: Arguments) -> Operation | None:
    """Slices and numbers; an index by tensors is a gather of one axis, or opaque."""
    data = given["input"]
    index = given["index"] if isinstance(given["index"], tuple) else (given["index"],)
    shape = _shape(data)
    taken = sum(item is not None and item is not Ellipsis for item in index)
    gathered = [item for item in index if isinstance(item, Operand)]
    if gathered:
        return _gathered(data, index, gathered, len(shape) - taken)
    parts: list[tuple[int, int, int, int]] = []
    squeeze: list[int] = []
    added: list[int] = []
    axis = place = 0
    for item in index:
        if item is None:
            added.append(place)
            place += 1
        elif item is Ellipsis:
            axis += len(shape) - taken
            place += len(shape) - taken
        elif isinstance(item, slice):
            if any(isinstance(x, Operand) for x in (item.start, item.stop, item.step)):
                return None
            start, end, step = item.indices(shape[axis])
            if (start, end, step) != (0, shape[axis], 1):
                parts.append((axis, start, max(end, start), step))
            axis, place = axis + 1, place + 1
        elif isinstance(item, int) and not isinstance(item, bool):
            start = item % shape[axis]
            parts.append((axis, start, start + 1, 1))
            squeeze.append(axis)
            axis += 1
        else:
            return None
    if added and not parts:
        return Operation("unsqueeze", {"axes": added}, [data])
    if added:
        return None
    return _sliced(data, parts, squeeze, given["_axes"])


def _gathered(
    data: Operand, index: Sequence[Any], gathered: Sequence[Operand], missing: int
) -> Operation | None:
    """Return the gather along one axis by one tensor of integers, all other axes as they are."""
    whole = all(
        isinstance(item, Operand) or item is Ellipsis or item == slice(None) for item in index
    )
    if len(gathered) != 1 or not whole or gathered[0].tensor.dtype == torch.bool:
        return None
    axis = 0
    for item in index:
        if isinstance(item, Operand):
            break
        axis += missing if item is Ellipsis else 1
    return Operation("gather", {"axis": axis}, [data, gathered[0]])


@reads("index_select")
def _index_select(name: str, given: Arguments) -> Operation:
    axis = _axis(given["dim"], given["input"].tensor.ndim)
    return Operation("gather", {"axis": axis}, [given["input"], given["index"]])


@reads("split split_with_sizes chunk tensor_split unbind")
def _split(name: str, given: Arguments) -> Operation:
    # The sizes are those of the outputs: they are filled in by `complete`.
    axis = _axis(given.get("dim", 0), given["input"].tensor.ndim)
    return Operation("split", {"axis": axis}, [given["input"]], keeps_axes=name != "unbind")


@reads("roll")
def _roll(name: str, given: Arguments) -> Operation | None:
    if given.get("dims") in (None, (), []):
        return None
    rank = given["input"].tensor.ndim
    dims, shifts = given["dims"], given["shifts"]
    axes = [_axis(d, rank) for d in (dims if isinstance(dims, tuple | list) else (dims,))]
    moved = [int(s) for s in (shifts if isinstance(shifts, tuple | list) else (shifts,))]
    return Operation("roll", {"shifts": moved, "axes": axes}, [given["input"]], keeps_axes=True)


@reads("flip")
def _flip(name: str, given: Arguments) -> Operation:
    axes = _axes_list(given["dims"], given["input"].tensor.ndim)
    return Operation("flip", {"axes": axes}, [given["input"]], keeps_axes=True)


@reads("pixel_shuffle pixel_unshuffle")
def _pixel_shuffle(name: str, given: Arguments) -> Operation:
    factor = given.get("factor", given.get("upscale_factor", given.get("downscale_factor")))
    return _layer(name, {"block": int(factor)}, given, "", channels_first(4))


@reads("pad")
def _pad(name: str, given: Arguments) -> Operation:
    """PyTorch lists the pairs from the last axis on."""
    flat = [int(item) for item in given["pad"]]
    pairs = [flat[i : i + 2] for i in range(0, len(flat), 2)][::-1]
    rank = given["input"].tensor.ndim
    # An image has two pairs, whether both are padded or not.
    pairs = [[0, 0]] * (rank - 2 - len(pairs)) + pairs
    hyper: dict[str, Any] = {"padding": pairs, "mode": given.get("mode", "constant")}
    if hyper["mode"] == "constant":
        hyper["value"] = float(given.get("value") or 0.0)
    return Operation("pad", hyper, [given["input"]], keeps_axes=True)


@reads("interpolate upsample")
def _interpolate(name: str, given: Arguments) -> Operation | None:
    data = given["input"]
    rank, mode = data.tensor.ndim, given.get("mode", "nearest").replace("-", "_")
    if given.get("antialias") or mode == "area":
        return None
    hyper: dict[str, Any] = {"mode": mode, "align_corners": bool(given.get("align_corners"))}
    size, scale = given.get("size"), given.get("scale_factor")
    if size is not None:
        hyper["size"] = _per_axis(size, rank - 2)
    elif scale is not None and not given.get("recompute_scale_factor"):
        values = list(scale) if isinstance(scale, tuple | list) else [scale] * (rank - 2)
        hyper["scale"] = [float(value) for value in values]
    else:
        return None
    return _layer("interpolate", hyper, given, "", channels_first(rank))


@reads("einsum")
def _einsum(name: str, given: Arguments) -> Operation | None:
    if not isinstance(given["equation"], str):
        return None
    parts = given["operands"]
    return Operation("einsum", {"equation": given["equation"].replace(" ", "")}, list(parts))


@reads("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout")
def _dropout(name: str, given: Arguments) -> Operation:
    return Operation("dropout", {}, [given["input"]], keeps_axes=True)


@reads("to type type_as long int short bool char byte")
def _cast(name: str, given: Arguments) -> Operation:
    return Operation("cast", {}, [given["input"]], keeps_axes=True)


def complete(operation: Operation, call: Call, input_axes: str) -> Operation:
    """Fill in what the outputs say of a shape operation."""
    outputs = list(call.outputs.values())
    shape = [int(size) for size in outputs[0].shape]
    if call.name.startswith("property ") and call.name.removeprefix("property ") in _TURNED:
        data = call.arguments["input"]
        order = list(range(data.tensor.ndim))
        order = order[::-1] if call.name.endswith(" T") else [*order[:-2], *order[:-3:-1]]
        return _permuted(data, order, input_axes)
    if operation.kind == "reshape":
        return _complete_reshape(operation, shape, input_axes)
    if operation.kind == "expand":
        operation.hyper["full_shape"] = shape
    elif operation.kind == "split":
        axis = operation.hyper["axis"]
        if call.name == "unbind":
            operation.hyper |= {"sizes": [1] * len(outputs), "squeeze": True}
        else:
            operation.hyper["sizes"] = [int(each.shape[axis]) for each in outputs]
    elif operation.kind == "cast":
        operation.hyper["dtype"] = str(outputs[0].dtype).removeprefix("torch.")
    return operation


_TURNED = frozenset({"T", "mT", "H", "mH"})


def _complete_reshape(operation: Operation, shape: list[int], input_axes: str) -> Operation:
    data = operation.operands[0]
    before = list(_shape(data))
    names = split_axes(input_axes)
    for start in range(1, len(before)):
        # One that joins the last axes from `start` on.
        if shape == [*before[:start], math.prod(before[start:])] and len(names) == len(before):
            joined = (
                " ".join(names[start:])
                if len(names) - start == 1
                else (
                    f"({' '.join(names[start:])})"
                    if not any("(" in n for n in names[start:])
                    else ""
                )
            )
            operation.axes = " ".join([*names[:start], joined]) if joined else ""
    if len(before) > 1 and shape == [before[0], math.prod(before[1:])]:
        operation.kind = "flatten"
    elif shape[:1] == before[:1]:
        operation.hyper["target"] = shape[1:]
    else:
        operation.hyper["full_shape"] = shape
    return operation
