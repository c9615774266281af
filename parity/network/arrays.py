"""Arithmetic that operators of several kinds share: padding, windows, channels (NCHW, float64)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pad_image(data: Array, padding: Sequence[Sequence[int]], value: float = 0.0) -> Array:
    """Pad an image (N, C, H, W) by [[top, bottom], [left, right]], none of them below 0."""
    if data.ndim != 4:
        raise ValueError(f"expected (N, C, H, W), found {data.shape}")
    (top, bottom), (left, right) = padding
    if min(top, bottom, left, right) < 0:
        raise ValueError("padding below 0")
    if not any((top, bottom, left, right)):
        return data
    widths = ((0, 0), (0, 0), (top, bottom), (left, right))
    return np.pad(data, widths, constant_values=value)


def pad_or_crop_image(data: Array, padding: Sequence[Sequence[int]], value: float = 0.0) -> Array:
    """Pad an image (N, C, H, W) by [[top, bottom], [left, right]]; a negative number crops."""
    if data.ndim != 4:
        raise ValueError(f"expected (N, C, H, W), found {data.shape}")
    kept = [
        slice(max(-before, 0), size - max(-after, 0))
        for size, (before, after) in zip(data.shape[2:], padding, strict=True)
    ]
    cropped = data[:, :, kept[0], kept[1]]
    if not cropped.size:
        raise ValueError(f"nothing is left of {data.shape} cropped by {padding}")
    return pad_image(cropped, [[max(b, 0), max(a, 0)] for b, a in padding], value)


def shifted_views(
    data: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> list[Array]:
    """Return, for each element of the window, row by row, a view of the values under it.

    Each is (N, C, rows, columns), one value for every position of the window.
    """
    (sy, sx), (dy, dx) = stride, dilation
    rows = (data.shape[2] - dy * (kernel[0] - 1) - 1) // sy + 1
    cols = (data.shape[3] - dx * (kernel[1] - 1) - 1) // sx + 1
    if rows < 1 or cols < 1:
        raise ValueError("the window does not fit")
    return [
        data[:, :, y : y + (rows - 1) * sy + 1 : sy, x : x + (cols - 1) * sx + 1 : sx]
        for y in range(0, kernel[0] * dy, dy)
        for x in range(0, kernel[1] * dx, dx)
    ]


def along_channels(vector: Array, tensor: Array) -> Array:
    """Reshape a vector to broadcast along a tensor's channels: axis 1 of images, else the last."""
    if vector.shape != (tensor.shape[1] if tensor.ndim == 4 else tensor.shape[-1],):
        raise ValueError(f"{vector.shape} values for the channels of {tensor.shape}")
    return vector.reshape(1, -1, 1, 1) if tensor.ndim == 4 else vector


def add_bias(output: Array, weights: Mapping[str, Array]) -> Array:
    """Add the bias to each channel, if there is one."""
    bias = weights.get("bias")
    return output if bias is None else output + along_channels(bias, output)
