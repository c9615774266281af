"""Dense layers: a matrix product over the last axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import add_bias
from parity.network.kind import BIAS, Hyper, Kind, Role

Array = NDArray[np.float64]


def _dense(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """An image (N, C, H, W) is flattened first, channels first."""
    data, kernel = inputs[0], weights["kernel"]
    if data.ndim == 4:
        data = data.reshape(data.shape[0], -1)
    if data.shape[-1] != kernel.shape[1]:
        raise ValueError(f"{data.shape[-1]} inputs do not fit a kernel of {kernel.shape}")
    return add_bias(data @ kernel.T, weights)


# MatMul's order, and Gemm's unless its attribute transB is set.
_KERNEL = Role("kernel", "kernel", "weight", "O I", keras_axes="I O", onnx_axes="I O")

KINDS = (
    Kind(
        "dense",
        _dense,
        words="dense layer",
        roles=(_KERNEL, BIAS),
        hyper=(
            Hyper("bias", keras="use_bias", torch="bias"),
            Hyper("in", torch="in_features"),
            Hyper("out", keras="units", torch="out_features", reshapes=True),
            Hyper("activation", "linear", keras="activation"),
        ),
        keras=("Dense",),
        torch=("Linear",),
        torch_functions=("linear",),
        onnx=("Gemm", "MatMul"),
    ),
)
