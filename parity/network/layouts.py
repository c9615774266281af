"""The axis order of activations: PyTorch's (N, C, H, W) and Keras's (N, H, W, C).

Each function returns a view. The orders of weights are stated with their kinds, in
`parity.network.kinds`. The functions use only the methods `transpose` and `reshape`, so NumPy
itself is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]


def to_nhwc(activation: Array) -> Array:
    """Reorder an activation from (N, C, H, W) to (N, H, W, C); a view.

    Other ranks are returned unchanged: (N, C) and (N, T, C) have one order in both frameworks.
    """
    return activation.transpose(0, 2, 3, 1) if activation.ndim == 4 else activation


def to_nchw(activation: Array) -> Array:
    """Reorder an activation from (N, H, W, C) to (N, C, H, W); a view, other ranks unchanged."""
    return activation.transpose(0, 3, 1, 2) if activation.ndim == 4 else activation


def drop_axes(activation: Array, rank: int) -> Array:
    """Drop trailing axes of length 1 until `rank` axes are left: (N, C, 1, 1) to (N, C)."""
    shape = activation.shape
    while len(shape) > rank and shape[-1] == 1:
        shape = shape[:-1]
    return activation.reshape(shape)
