"""Float64 convolutions as one product for the whole batch.

PyTorch's float64 convolution on the CPU takes one product for each sample. Deep in a network a
sample has a few positions and the kernel is many times larger, so that reading the kernel again for
each sample costs most of the time. Here the columns of all samples are one matrix. The sums are the
same numbers in another order: they differ by roundings of float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

MOST_POSITIONS = 64
"""The largest number of output positions of a sample that is computed here: 8×8. With more, one
product for each sample is as fast, and needs no matrix of all columns."""

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
"""Those of `torch.nn.functional.conv2d`, in its order."""


class BatchedConvolutions(TorchFunctionMode):
    """While entered, float64 convolutions with few output positions are one product each.

    Those with groups or a dilation are left to PyTorch.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is functional.conv2d:
            given = dict(zip(_ARGUMENTS, args, strict=False)) | options
            geometry = _find_geometry(given)
            if geometry is not None:
                bias = given.get("bias")
                output = _Convolution.apply(given["input"], given["weight"], *geometry)
                return output if bias is None else output + bias.view(1, -1, 1, 1)
        return func(*args, **options)


def _find_geometry(
    given: Mapping[str, Any],
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the strides and the paddings of a convolution to compute here; None for others."""
    image, kernel = given["input"], given["weight"]
    stride, padding = _pair(given.get("stride", 1)), _pair(given.get("padding", 0))
    if (
        padding is None
        or stride is None
        or _pair(given.get("dilation", 1)) != (1, 1)
        or given.get("groups", 1) != 1
        or image.dtype != torch.float64
        or image.dim() != 4
        or image.device.type != "cpu"
    ):
        return None
    height, width = _count_positions(image, kernel, stride, padding)
    return (stride, padding) if 0 < height * width <= MOST_POSITIONS else None


def _pair(value: Any) -> tuple[int, int] | None:
    """Return a length of both axes; None for a padding that has a name."""
    if isinstance(value, str):
        return None
    first, *others = (value, value) if isinstance(value, int) else tuple(value)
    return int(first), int(others[0] if others else first)


def _count_positions(
    image: Tensor, kernel: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    """Return the height and the width of the output."""
    height, width = (
        (image.shape[2 + axis] + 2 * padding[axis] - kernel.shape[2 + axis]) // stride[axis] + 1
        for axis in (0, 1)
    )
    return height, width


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: Tensor, kernel: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        height, width = _count_positions(image, kernel, stride, padding)
        columns = _list_columns(image, kernel, stride, padding)
        ctx.save_for_backward(columns, kernel)
        ctx.geometry = stride, padding, image.shape, (height, width)
        product = kernel.reshape(len(kernel), -1) @ columns
        return product.view(len(kernel), len(image), height, width).transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        columns, kernel = ctx.saved_tensors
        stride, padding, shape, positions = ctx.geometry
        rows = gradients[0].transpose(0, 1).reshape(len(kernel), -1)
        own = (rows @ columns.t()).view_as(kernel) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, own, None, None
        back = kernel.reshape(len(kernel), -1).t() @ rows
        batch, channels = shape[:2]
        taps = back.view(channels, *kernel.shape[2:], batch, *positions)
        return _add_columns(taps, stride, padding, shape), own, None, None


def _list_columns(
    image: Tensor, kernel: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return (C·kh·kw, N·h·w): what each element of the kernel is multiplied with."""
    padded = functional.pad(image, (padding[1], padding[1], padding[0], padding[0]))
    windows = padded.unfold(2, kernel.shape[2], stride[0]).unfold(3, kernel.shape[3], stride[1])
    columns = windows.permute(1, 4, 5, 0, 2, 3)
    return columns.reshape(kernel[0].numel(), -1)


def _add_columns(
    taps: Tensor, stride: tuple[int, int], padding: tuple[int, int], shape: torch.Size
) -> Tensor:
    """Return the gradient (N, C, H, W) of the image, of those (C, kh, kw, N, h, w) of columns."""
    batch, channels, height, width = shape
    padded = taps.new_zeros(channels, batch, height + 2 * padding[0], width + 2 * padding[1])
    lengths = taps.shape[4:]
    for y in range(taps.shape[1]):
        for x in range(taps.shape[2]):
            bottom, right = y + stride[0] * lengths[0], x + stride[1] * lengths[1]
            padded[:, :, y : bottom : stride[0], x : right : stride[1]] += taps[:, y, x]
    inner = padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    return inner.transpose(0, 1).contiguous()
