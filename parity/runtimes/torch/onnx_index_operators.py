"""ONNX operators in PyTorch that read or write at places that a tensor of indices names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from parity.runtimes.torch.onnx_operators import Call, Unsupported, integers, operator
from parity.runtimes.torch.onnx_shape_operators import wrap_indices

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("GatherND")
def gather_nd(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    """The last axis of `indices` names a place in the axes behind the batch axes."""
    batch, depth = call.get("batch_dims", 0), indices.shape[-1]
    shared = x.shape[:batch]
    rows = x.reshape(-1, *x.shape[batch:])
    places = indices.reshape(rows.shape[0], -1, depth)
    wrapped = [wrap_indices(places[..., axis], rows.shape[axis + 1]) for axis in range(depth)]
    first = torch.arange(rows.shape[0]).reshape(-1, 1).expand(places.shape[:2])
    found = rows[(first, *wrapped)]
    return found.reshape(*shared, *indices.shape[batch:-1], *x.shape[batch + depth :])


@operator("ScatterND")
def scatter_nd(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    depth = indices.shape[-1]
    strides = [1] * depth
    for axis in reversed(range(depth - 1)):
        strides[axis] = strides[axis + 1] * x.shape[axis + 1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for axis in range(depth):
        flat = flat + wrap_indices(indices[..., axis], x.shape[axis]) * strides[axis]
    flat = flat.reshape(-1)
    rows = x.reshape(-1, *x.shape[depth:]).clone()
    values = updates.reshape(flat.numel(), *x.shape[depth:]).to(x.dtype)
    return _write(rows, 0, flat, values, call.get("reduction", "none")).reshape(x.shape)


def _write(rows: Tensor, axis: int, places: Tensor, values: Tensor, reduction: str) -> Tensor:
    if reduction in ("none", ""):
        return rows.index_copy(axis, places, values)
    return (
        rows.index_reduce(axis, places, values, _REDUCTIONS[reduction])
        if (reduction != "add")
        else rows.index_add(axis, places, values)
    )


@operator("ScatterElements", "Scatter")
def scatter_elements(call: Call, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, reduction = call.get("axis", 0), call.get("reduction", "none")
    places, values = wrap_indices(indices, x.shape[axis]), updates.to(x.dtype)
    if reduction in ("none", ""):
        return x.scatter(axis, places, values)
    return x.scatter_reduce(axis, places, values, _REDUCTIONS[reduction], include_self=True)


@operator("OneHot")
def one_hot(call: Call, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """An index outside the depth makes a row of off values."""
    count, axis = integers(depth)[0], call.get("axis", -1)
    off, on = values
    axis = axis % (indices.ndim + 1)
    shape = [1] * (indices.ndim + 1)
    shape[axis] = count
    places = wrap_indices(indices, count).unsqueeze(axis)
    return torch.where(places == torch.arange(count).reshape(shape), on, off)


@operator("ReverseSequence")
def reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    batch, time = call.get("batch_axis", 1), call.get("time_axis", 0)
    moved = x.movedim((batch, time), (0, 1))
    steps = torch.arange(moved.shape[1]).reshape(1, -1)
    ends = lengths.to(torch.int64).reshape(-1, 1)
    source = torch.where(steps < ends, ends - 1 - steps, steps)
    index = source.reshape(*source.shape, *[1] * (x.ndim - 2)).expand(moved.shape)
    return moved.gather(1, index).movedim((0, 1), (batch, time))


@operator("Compress")
def compress(call: Call, x: Tensor, condition: Tensor) -> Tensor:
    axis = call.get("axis")
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return x.index_select(axis, torch.nonzero(condition).reshape(-1))


@operator("EyeLike")
def eye_like(call: Call, x: Tensor) -> Tensor:
    dtype = call.torch_dtype(call.get("dtype")) if call.get("dtype") is not None else x.dtype
    rows, columns = x.shape
    offset = torch.arange(columns) - torch.arange(rows).reshape(-1, 1)
    return (offset == call.get("k", 0)).to(dtype)


def _bitwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda call, a, b: function(a, b)


for _name, _function in (
    ("BitwiseAnd", torch.bitwise_and),
    ("BitwiseOr", torch.bitwise_or),
    ("BitwiseXor", torch.bitwise_xor),
):
    operator(_name)(_bitwise(_function))


@operator("BitwiseNot")
def bitwise_not(call: Call, x: Tensor) -> Tensor:
    return torch.bitwise_not(x)


@operator("IsInf")
def is_inf(call: Call, x: Tensor) -> Tensor:
    positive, negative = call.get("detect_positive", 1), call.get("detect_negative", 1)
    return (torch.isposinf(x) & bool(positive)) | (torch.isneginf(x) & bool(negative))


@operator("Shrink")
def shrink(call: Call, x: Tensor) -> Tensor:
    bias, limit = call.float_attribute("bias", 0.0), call.float_attribute("lambd", 0.5)
    zero = torch.zeros_like(x)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, zero))


@operator("Hardmax")
def hardmax(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", -1 if call.opset >= 13 else 1)
    if call.opset < 13 and axis % x.ndim != x.ndim - 1:
        raise Unsupported("several axes at once")
    index = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, index, 1.0)


@operator("LRN")
def local_response_norm(call: Call, x: Tensor) -> Tensor:
    """Krizhevsky et al. (2012), over channels; an even size has one more behind than before."""
    size = call.get("size")
    alpha, beta = call.float_attribute("alpha", 1e-4), call.float_attribute("beta", 0.75)
    square = x.square()
    total = torch.zeros_like(x)
    for offset in range(-((size - 1) // 2), size // 2 + 1):
        first, last = max(offset, 0), min(x.shape[1] + offset, x.shape[1])
        if first < last:
            total[:, first - offset : last - offset] += square[:, first:last]
    return x / (call.float_attribute("bias", 1.0) + alpha / size * total).pow(beta)


@operator("MeanVarianceNormalization")
def mean_variance_norm(call: Call, x: Tensor) -> Tensor:
    axes = tuple(call.get("axes", (0, 2, 3)))
    mean = x.mean(axes, keepdim=True)
    deviation = (x.square().mean(axes, keepdim=True) - mean.square()).sqrt()
    # The specification adds this epsilon to the deviation.
    return (x - mean) / (deviation + 1e-9)


@operator("GridSample")
def grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    modes = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest",
             "bicubic": "bicubic", "cubic": "bicubic"}  # fmt: skip
    return torch.nn.functional.grid_sample(
        x, grid, modes[call.get("mode", "linear")], call.get("padding_mode", "zeros"),
        bool(call.get("align_corners", 0)),
    )  # fmt: skip
