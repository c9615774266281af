"""Dense layers and matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import add_bias
from parity.network.kind import BIAS, Hyperparameter, Kind, Role

Array = NDArray[np.float64]


def _dense(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Matrix product over the last axis; an image (N, C, H, W) is flattened to (N, C·H·W) first."""
    data, kernel = inputs[0], weights["kernel"]
    if data.ndim == 4:
        data = data.reshape(data.shape[0], -1)
    if data.shape[-1] != kernel.shape[1]:
        raise ValueError(f"{data.shape[-1]} inputs do not fit a kernel of {kernel.shape}")
    return add_bias(data @ kernel.T, weights)


def _matmul(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Matrix product of the last two axes; the axes before them broadcast."""
    return np.asarray(inputs[0] @ inputs[1])


def _einsum(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Einstein's sum of all inputs, in NumPy's notation."""
    return np.asarray(np.einsum(hyper["equation"], *inputs))


# MatMul's order, and Gemm's unless its attribute transB is set.
_KERNEL = Role("kernel", "kernel", "weight", "O I", keras_axes="I O", onnx_axes="I O")

KINDS = (
    Kind(
        "dense",
        _dense,
        family="linear",
        phrase="dense layer",
        roles=(_KERNEL, BIAS),
        hyperparameters=(
            Hyperparameter("bias", keras="use_bias", torch="bias"),
            Hyperparameter("in", torch="in_features"),
            Hyperparameter("out", keras="units", torch="out_features", reshapes=True),
            Hyperparameter("activation", "linear", keras="activation"),
        ),
        keras=("Dense",),
        torch=("Linear",),
        torch_functions=("linear",),
        onnx=("Gemm", "MatMul"),
    ),
    Kind(
        "matmul",
        _matmul,
        mixes_axes=True,
        own_axes=True,
        family="product",
        ordered=True,
        landmark="product",
        phrase="matrix product",
        torch_functions=("matmul", "bmm", "mm"),
        joins_branches=True,
    ),
    Kind(
        "einsum",
        _einsum,
        mixes_axes=True,
        own_axes=True,
        family="product",
        ordered=True,
        landmark="product",
        hyperparameters=(Hyperparameter("equation", onnx="equation"),),
        torch_functions=("einsum",),
        onnx=("Einsum",),
        joins_branches=True,
    ),
)
