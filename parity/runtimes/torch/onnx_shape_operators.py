"""ONNX operators in PyTorch that reshape, slice, join or create tensors, without arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor

from parity.runtimes.torch.onnx_operators import (
    FLOATS,
    Call,
    Unsupported,
    integers,
    operator,
)

Array = NDArray[Any]

NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def to_tensor(array: Any, dtype: torch.dtype) -> Tensor:
    """Copy an array to a tensor; every floating type, bfloat16 too, becomes `dtype`."""
    array = np.asarray(array)
    # bfloat16 and its like are NumPy extension types, of kind V.
    if array.dtype.kind in "fV":
        return torch.from_numpy(np.array(array, dtype=NUMPY[dtype]))
    if array.dtype.kind not in "biu":
        raise Unsupported(f"tensors of type {array.dtype}")
    return torch.from_numpy(np.array(array))


def share_array(array: Array, dtype: torch.dtype) -> Tensor:
    """Return an array as a tensor that is only read; it is copied where its dtype changes."""
    if array.dtype == NUMPY[dtype] and array.flags.writeable:
        return torch.from_numpy(array)
    return to_tensor(array, dtype)


def from_proto(proto: TensorProto, dtype: torch.dtype) -> Tensor:
    """Return an initializer or a constant as a tensor; floating types become `dtype`."""
    if proto.data_type not in FLOATS and proto.data_type > TensorProto.UINT64:
        raise Unsupported(f"tensors of type {TensorProto.DataType.Name(proto.data_type)}")
    return to_tensor(numpy_helper.to_array(proto), dtype)


@operator("Constant")
def constant(call: Call) -> Tensor:
    if call.get("value") is not None:
        return from_proto(call.get("value"), call.dtype)
    for name, dtype in (("value_float", call.dtype), ("value_int", torch.int64)):
        for key in (name, f"{name}s"):
            if call.get(key) is not None:
                return torch.tensor(call.get(key), dtype=dtype)
    raise Unsupported("a constant that is a string or sparse")


@operator("ConstantOfShape")
def constant_of_shape(call: Call, shape: Tensor) -> Tensor:
    value = call.get("value")
    fill = torch.zeros(1, dtype=call.dtype) if value is None else from_proto(value, call.dtype)
    return fill.reshape(()).expand(integers(shape))


@operator("Range")
def arrange(call: Call, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return start + torch.arange(count, dtype=start.dtype) * delta


@operator("Shape")
def shape(call: Call, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[call.get("start", 0) : call.get("end")], dtype=torch.int64)


@operator("Size")
def size(call: Call, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape")
def reshape(call: Call, x: Tensor, target: Tensor) -> Tensor:
    sizes = integers(target)
    if not call.get("allowzero", 0):
        sizes = [x.shape[i] if length == 0 else length for i, length in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    # An axis equal to the rank is allowed: all dimensions go to the rows.
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Transpose")
def transpose(call: Call, x: Tensor) -> Tensor:
    return x.permute(call.get("perm", tuple(reversed(range(x.ndim)))))


@operator("Squeeze")
def squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    squeezed = integers(axes) if axes is not None else call.get("axes")
    if squeezed is None:
        return x.squeeze()
    unit_axes = {axis % x.ndim for axis in squeezed}
    if any(x.shape[axis] != 1 for axis in unit_axes):
        raise ValueError(f"axes {sorted(unit_axes)} of shape {tuple(x.shape)} are not all 1")
    return x.squeeze(tuple(unit_axes))


@operator("Unsqueeze")
def unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    new_axes = integers(axes) if axes is not None else call.get("axes")
    rank = x.ndim + len(new_axes)
    for axis in sorted(axis % rank for axis in new_axes):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concatenate(call: Call, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, dim=call.get("axis"))


@operator("Split")
def split(call: Call, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    """Sizes are an attribute before opset 13; without any, parts are equal but for the last."""
    axis = call.get("axis", 0)
    lengths = integers(sizes) if sizes is not None else call.get("split")
    if lengths is None:
        length, count = x.shape[axis], call.get("num_outputs", call.outputs)
        part = math.ceil(length / count)
        lengths = [min(part, max(length - i * part, 0)) for i in range(count)]
    return torch.split(x, list(lengths), dim=axis)


@operator("Slice")
def slice_tensor(
    call: Call,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """All are attributes before opset 10, without steps."""
    first = integers(starts) if starts is not None else call.get("starts")
    last = integers(ends) if ends is not None else call.get("ends")
    sliced_axes = integers(axes) if axes is not None else call.get("axes", range(len(first)))
    stride = integers(steps) if steps is not None else [1] * len(first)
    for start, end, axis, step in zip(first, last, sliced_axes, stride, strict=True):
        indices = range(*slice(start, end, step).indices(x.shape[axis]))
        x = x.index_select(axis, torch.tensor(indices, dtype=torch.int64))
    return x


def wrap_indices(indices: Tensor, length: int) -> Tensor:
    """Return indices with the negative ones counted from the end."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + length, indices)


@operator("Gather")
def gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.ndim
    flat = wrap_indices(indices, x.shape[axis]).reshape(-1)
    sizes = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, flat).reshape(sizes)


@operator("GatherElements")
def gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0)
    return x.gather(axis, wrap_indices(indices, x.shape[axis]))


@operator("Expand")
def expand(call: Call, x: Tensor, target: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, integers(target)))


@operator("Tile")
def tile(call: Call, x: Tensor, repeats: Tensor) -> Tensor:
    return x.tile(integers(repeats))


@operator("NonZero")
def nonzero(call: Call, x: Tensor) -> Tensor:
    return torch.nonzero(x).T


@operator("Trilu")
def triangle(call: Call, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else integers(k)[0]
    return torch.triu(x, diagonal) if call.get("upper", 1) else torch.tril(x, diagonal)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    block, (n, c, h, w) = call.get("blocksize"), x.shape
    if call.get("mode", "DCR") == "DCR":
        parts = x.reshape(n, block, block, -1, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, -1, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Tensor) -> Tensor:
    block, (n, c, h, w) = call.get("blocksize"), x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


_NUMPY_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


@operator("Pad")
def pad(
    call: Call,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """Pads are an attribute before opset 11; negative ones cut."""
    mode = call.get("mode", "constant")
    amounts = integers(pads) if pads is not None else list(call.get("pads"))
    padded_axes = integers(axes) if axes is not None else list(range(x.ndim))
    fill = call.float_attribute("value", 0.0) if value is None else value.item()
    half = len(amounts) // 2
    for axis, before, after in zip(padded_axes, amounts[:half], amounts[half:], strict=True):
        if before or after:
            x = _pad_axis(x, axis % x.ndim, before, after, mode, fill)
    return x


def _pad_axis(x: Tensor, axis: int, before: int, after: int, mode: str, fill: float) -> Tensor:
    x = x.narrow(axis, max(-before, 0), x.shape[axis] + min(before, 0) + min(after, 0))
    before, after = max(before, 0), max(after, 0)
    if mode == "constant":
        edges = [x.new_full((*x.shape[:axis], n, *x.shape[axis + 1 :]), fill)
                 for n in (before, after)]  # fmt: skip
        return torch.cat([edges[0], x, edges[1]], dim=axis)
    if mode not in _NUMPY_MODES:
        raise Unsupported(f"mode {mode}")
    # The mode is applied to the indices: PyTorch pads by reflection in three axes at most.
    sources = np.pad(np.arange(x.shape[axis]), (before, after), mode=_NUMPY_MODES[mode])  # type: ignore[call-overload]
    return x.index_select(axis, torch.from_numpy(sources))
