"""Arithmetic that operators of several kinds share: padding, windows, channels, complex numbers.

Data is float64, channels first: (N, C, ...) with one to three spatial axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pad_image(data: Array, padding: Sequence[Sequence[int]], value: float = 0.0) -> Array:
    """Pad (N, C, ...) by a pair for each spatial axis: [[top, bottom], [left, right]] for an image.

    Raises `ValueError` for a number below 0.
    """
    _require_spatial(data, padding)
    if any(min(pair) < 0 for pair in padding):
        raise ValueError("padding below 0")
    if not any(map(any, padding)):
        return data
    widths = ((0, 0), (0, 0), *(tuple(pair) for pair in padding))
    return np.pad(data, widths, constant_values=value)


def pad_or_crop_image(data: Array, padding: Sequence[Sequence[int]], value: float = 0.0) -> Array:
    """Pad (N, C, ...) by a pair for each spatial axis; a negative number crops."""
    _require_spatial(data, padding)
    kept = tuple(
        slice(max(-before, 0), size - max(-after, 0))
        for size, (before, after) in zip(data.shape[2:], padding, strict=True)
    )
    cropped = data[(slice(None), slice(None), *kept)]
    if not cropped.size:
        raise ValueError(f"nothing is left of {data.shape} cropped by {padding}")
    return pad_image(cropped, [[max(b, 0), max(a, 0)] for b, a in padding], value)


def _require_spatial(data: Array, values: Sequence[object]) -> None:
    if data.ndim < 3 or data.ndim - 2 != len(values):
        axes = "H, W" if len(values) == 2 else f"{len(values)} spatial axes"
        raise ValueError(f"expected (N, C, {axes}), found {data.shape}")


def shifted_views(
    data: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (),
) -> list[Array]:
    """Return, for each element of the window, in row-major order, a view of the values under it.

    Each is (N, C, ...), one value for every position of the window.
    """
    _require_spatial(data, kernel)
    dilation = dilation or (1,) * len(kernel)
    counts = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(data.shape[2:], kernel, stride, dilation, strict=True)
    ]
    if min(counts) < 1:
        raise ValueError("the window does not fit")
    offsets = itertools.product(
        *(range(0, k * d, d) for k, d in zip(kernel, dilation, strict=True))
    )
    return [
        data[
            (
                slice(None),
                slice(None),
                *(
                    slice(offset, offset + (count - 1) * s + 1, s)
                    for offset, count, s in zip(place, counts, stride, strict=True)
                ),
            )
        ]
        for place in offsets
    ]


def along_axis(vector: Array, tensor: Array, axis: int) -> Array:
    """Reshape a vector to broadcast along one axis of a tensor."""
    if vector.shape != (tensor.shape[axis],):
        raise ValueError(f"{vector.shape} values for the channels of {tensor.shape}")
    return vector.reshape([-1 if dim == axis % tensor.ndim else 1 for dim in range(tensor.ndim)])


def along_channels(vector: Array, tensor: Array) -> Array:
    """Reshape a vector to broadcast along a tensor's channels: axis 1 of images, else the last."""
    return along_axis(vector, tensor, 1 if tensor.ndim == 4 else -1)


def add_bias(output: Array, weights: Mapping[str, Array]) -> Array:
    """Add the bias to each channel, if there is one."""
    bias = weights.get("bias")
    return output if bias is None else output + along_channels(bias, output)


REAL_DTYPES = {"complex64": "float32", "complex128": "float64"}
"""The dtype of the parts of complex numbers."""


def split_complex(array: NDArray[Any]) -> NDArray[Any]:
    """Return complex numbers as (..., 2), the real and the imaginary part; others as they are."""
    return np.stack([array.real, array.imag], axis=-1) if np.iscomplexobj(array) else array


def on_complex_parts(
    function: Callable[..., Any], inputs: Sequence[Array], flags: Sequence[bool]
) -> Array:
    """Return a function of numbers, some of which are complex; the last axis has their parts."""
    numbers = [
        join_complex(data) if is_complex else data
        for data, is_complex in zip(inputs, flags, strict=True)
    ]
    return np.asarray(split_complex(function(*numbers)), np.float64)


def join_complex(parts: NDArray[Any]) -> NDArray[Any]:
    """Return (..., 2) as complex numbers."""
    return parts[..., 0] + 1j * parts[..., 1]
