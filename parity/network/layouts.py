"""Every axis permutation in the project: kernels and activations, PyTorch's order and Keras's.

Functions return views wherever a permutation of axes is enough; the depthwise pair reshapes first
and copies only if the input is not contiguous. No function changes its input. Anything with
NumPy's ``transpose`` and ``reshape`` will do, so NumPy itself is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]


def to_hwcm(kernel: Array, *, multiplier: int = 1) -> Array:
    """Reorder a depthwise kernel from (C·M, 1, H, W) to (H, W, C, M), with M = `multiplier`.

    Both frameworks put output m of channel c at c·M + m.
    """
    outputs, _, height, width = kernel.shape
    grouped = kernel.reshape(outputs // multiplier, multiplier, height, width)
    return grouped.transpose(2, 3, 0, 1)


def from_hwcm(kernel: Array) -> Array:
    """Reorder a depthwise kernel from (H, W, C, M) to (C·M, 1, H, W)."""
    height, width, channels, multiplier = kernel.shape
    return kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)


def to_nhwc(activation: Array) -> Array:
    """Reorder an activation from (N, C, H, W) to (N, H, W, C); a view.

    Other ranks come back as they are: (N, C) and (N, T, C) are laid out alike in both frameworks.
    """
    return activation.transpose(0, 2, 3, 1) if activation.ndim == 4 else activation


def to_nchw(activation: Array) -> Array:
    """Reorder an activation from (N, H, W, C) to (N, C, H, W); a view, other ranks as they are."""
    return activation.transpose(0, 3, 1, 2) if activation.ndim == 4 else activation


def drop_axes(activation: Array, rank: int) -> Array:
    """Take trailing axes of length 1 away until `rank` axes are left: (N, C, 1, 1) to (N, C)."""
    shape = activation.shape
    while len(shape) > rank and shape[-1] == 1:
        shape = shape[:-1]
    return activation.reshape(shape)


def to_keras(value: Array, *, kind: str, role: str, multiplier: int = 1) -> Array:
    """Reorder a canonical weight (PyTorch's layout) of a layer of `kind` to Keras's layout.

    Kernels of dense layers and of convolutions of any rank are reordered, the transposed ones
    too: (I, O, H, W) becomes (H, W, O, I). Vectors come back as they are.
    """
    if role != "kernel":
        return value
    if kind == "depthwise_conv":
        return to_hwcm(value, multiplier=multiplier)
    return value.transpose(_keras_axes(value.ndim))


def to_canonical(value: Array, *, kind: str, role: str) -> Array:
    """Reorder a Keras weight of a layer of `kind` to the canonical (PyTorch's) layout."""
    if role != "kernel":
        return value
    if kind == "depthwise_conv":
        return from_hwcm(value)
    last = value.ndim - 1
    return value.transpose((last, last - 1, *range(last - 1)))


def keras_shape(shape: tuple[int, ...], *, kind: str, role: str) -> tuple[int, ...]:
    """The shape in Keras of a weight that has this canonical shape (depth multiplier 1)."""
    if role != "kernel":
        return shape
    axes = (2, 3, 0, 1) if kind == "depthwise_conv" else _keras_axes(len(shape))
    return tuple(shape[axis] for axis in axes)


def _keras_axes(rank: int) -> tuple[int, ...]:
    """The axes of a canonical kernel in Keras's order: space first, then inputs, then outputs."""
    return (*range(2, rank), 1, 0)
