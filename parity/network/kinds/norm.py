"""Normalisation: by the statistics of batches, of the last axis, of groups of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import along_axis
from parity.network.kind import Hyperparameter, Kind, Role

Array = NDArray[np.float64]


def _batch_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Batch-norm in inference, by the running statistics: Ioffe and Szegedy (2015), algorithm 2.

    The channels are axis 1: (N, C) or (N, C, ...).
    """
    data = inputs[0]
    scale = 1.0 / np.sqrt(weights["variance"] + hyper["epsilon"])
    if "gamma" in weights:
        scale = scale * weights["gamma"]
    output = (data - along_axis(weights["mean"], data, 1)) * along_axis(scale, data, 1)
    return output + along_axis(weights["beta"], data, 1) if "beta" in weights else output


def _layer_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Layer-norm over `axes`, by default the last of (N, C) or (N, T, C): Ba et al. (2016)."""
    data = inputs[0]
    axes = _axes(data, hyper)
    centred = data - data.mean(axis=axes, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + hyper["epsilon"])
    return _scale_and_shift(centred / spread, weights, axes)


def _rms_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Division by the root mean square over `axes`: Zhang and Sennrich (2019)."""
    data = inputs[0]
    axes = _axes(data, hyper)
    spread = np.sqrt((data**2).mean(axis=axes, keepdims=True) + hyper["epsilon"])
    return _scale_and_shift(data / spread, weights, axes)


def _axes(data: Array, hyper: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the axes that are normalised; those of an image must be stated."""
    if hyper.get("axes") is not None:
        return tuple(axis % data.ndim for axis in hyper["axes"])
    if data.ndim == 4:
        raise ValueError("which axes of an image are normalised is not known")
    return (data.ndim - 1,)


def _scale_and_shift(data: Array, weights: Mapping[str, Array], axes: tuple[int, ...]) -> Array:
    """Apply gamma and beta, whose axes are the given ones of the data."""
    shape = [size if axis in axes else 1 for axis, size in enumerate(data.shape)]
    if "gamma" in weights:
        data = data * weights["gamma"].reshape(shape)
    return data + weights["beta"].reshape(shape) if "beta" in weights else data


def _group_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Group-norm over `groups` of consecutive channels, axis 1: Wu and He (2018)."""
    data, groups = inputs[0], int(hyper["groups"])
    if data.ndim < 2 or data.shape[1] % groups:
        raise ValueError(f"an input of {data.shape} has no {groups} groups of channels")
    unit = _standardise(data.reshape(data.shape[0], groups, -1), hyper["epsilon"])
    return _scale_and_shift(unit.reshape(data.shape), weights, (1,))


def _instance_norm(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Instance-norm: each channel, axis 1, of each example: Ulyanov et al. (2016)."""
    data = inputs[0]
    if data.ndim < 3:
        raise ValueError(f"{data.shape} has no spatial axes")
    unit = _standardise(data.reshape(*data.shape[:2], -1), hyper["epsilon"])
    return _scale_and_shift(unit.reshape(data.shape), weights, (1,))


def _l2_normalize(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Division by the Euclidean norm over `axes`, which is never taken below epsilon."""
    data, axes = inputs[0], tuple(hyper["axes"])
    length = np.sqrt((data**2).sum(axis=axes, keepdims=True))
    return np.asarray(data / np.maximum(length, hyper["epsilon"]))


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
# Of kinds that are read from function calls alone.
_OWN_EPSILON = replace(_EPSILON, keras="", torch="")
_AXES = Hyperparameter("axes", optional=True)
"""The axes that are normalised, counted from 0 in the framework's own order."""

KINDS = (
    Kind(
        "batch_norm",
        _batch_norm,
        affine=True,
        channels_second=True,
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
        family="norm",
        statistics_over="axes",
        roles=_AFFINE,
        hyperparameters=(_EPSILON, _AXES),
        keras=("LayerNormalization",),
        torch=("LayerNorm",),
        torch_functions=("layer_norm",),
        onnx=("LayerNormalization",),
    ),
    Kind(
        "group_norm",
        _group_norm,
        family="norm",
        statistics_over="groups",
        channels_second=True,
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
    Kind(
        "instance_norm",
        _instance_norm,
        family="norm",
        statistics_over="channels",
        channels_second=True,
        phrase="instance-norm",
        roles=_AFFINE,
        hyperparameters=(_OWN_EPSILON,),
        torch_functions=("instance_norm",),
        onnx=("InstanceNormalization",),
    ),
    Kind(
        "rms_norm",
        _rms_norm,
        family="norm",
        statistics_over="axes",
        phrase="RMS-norm",
        roles=_AFFINE[:1],
        hyperparameters=(_OWN_EPSILON, _AXES),
        torch_functions=("rms_norm",),
        onnx=("RMSNormalization",),
    ),
    Kind(
        "l2_normalize",
        _l2_normalize,
        # PyTorch takes the larger of the norm and epsilon.
        hyperparameters=(replace(_OWN_EPSILON, onnx=""), _AXES),
        torch_functions=("normalize",),
    ),
)
