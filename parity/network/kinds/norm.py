"""Normalisation: by the statistics of batches, of the last axis, of groups of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import along_channels
from parity.network.kind import Hyperparameter, Kind, Role

Array = NDArray[np.float64]


def _batch_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Batch-norm in inference, by the running statistics: Ioffe and Szegedy (2015), algorithm 2."""
    data = inputs[0]
    scale = 1.0 / np.sqrt(weights["variance"] + hyper["epsilon"])
    if "gamma" in weights:
        scale = scale * weights["gamma"]
    output = (data - along_channels(weights["mean"], data)) * along_channels(scale, data)
    return output + along_channels(weights["beta"], data) if "beta" in weights else output


def _layer_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Layer-norm over the last axis of (N, C) or (N, T, C): Ba, Kiros and Hinton (2016)."""
    data = inputs[0]
    if data.ndim == 4:
        raise ValueError("which axes of an image are normalised is not known")
    unit = _standardise(data, hyper["epsilon"])
    return np.asarray(unit * weights.get("gamma", 1.0) + weights.get("beta", 0.0))


def _group_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Group-norm over `groups` of consecutive channels: Wu and He (2018)."""
    data, groups = inputs[0], int(hyper["groups"])
    if data.ndim not in (2, 4) or data.shape[1] % groups:
        raise ValueError(f"an input of {data.shape} has no {groups} groups of channels")
    unit = _standardise(data.reshape(data.shape[0], groups, -1), hyper["epsilon"])
    output = unit.reshape(data.shape)
    if "gamma" in weights:
        output = output * along_channels(weights["gamma"], data)
    return output + along_channels(weights["beta"], data) if "beta" in weights else output


def _standardise(data: Array, epsilon: float) -> Array:
    """Return (x − mean) / √(variance + epsilon) over the last axis; the variance divides by n."""
    centred = data - data.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return np.asarray(centred / spread)


_AFFINE = (Role("gamma", "gamma", "weight"), Role("beta", "beta", "bias"))
_STATISTICS = (
    Role("mean", "moving_mean", "running_mean", statistic=True),
    Role("variance", "moving_variance", "running_var", statistic=True),
)
# No default: Keras's is 1e-3 and PyTorch's 1e-5.
_EPSILON = Hyperparameter("epsilon", keras="epsilon", torch="eps", onnx="epsilon")

KINDS = (
    Kind(
        "batch_norm",
        _batch_norm,
        phrase="batch-norm",
        roles=(*_AFFINE, *_STATISTICS),
        hyperparameters=(_EPSILON,),
        keras=("BatchNormalization",),
        torch=("BatchNorm2d", "BatchNorm1d"),
        torch_functions=("batch_norm",),
        onnx=("BatchNormalization",),
    ),
    Kind(
        "layer_norm",
        _layer_norm,
        roles=_AFFINE,
        hyperparameters=(_EPSILON,),
        keras=("LayerNormalization",),
        torch=("LayerNorm",),
        torch_functions=("layer_norm",),
        onnx=("LayerNormalization",),
    ),
    Kind(
        "group_norm",
        _group_norm,
        roles=_AFFINE,
        hyperparameters=(
            _EPSILON,
            Hyperparameter("groups", keras="groups", torch="num_groups", onnx="num_groups"),
        ),
        keras=("GroupNormalization",),
        torch=("GroupNorm",),
        torch_functions=("group_norm",),
        onnx=("GroupNormalization",),
    ),
)
