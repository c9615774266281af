"""Convolutions over one to three spatial axes: plain and grouped, depthwise, transposed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import windows
from parity.network.arrays import along_axis, pad_image, pad_or_crop_image, shifted_views
from parity.network.kind import BIAS, Hyperparameter, Kind, Role, to_sizes, tuples_to_lists

Array = NDArray[np.float64]


def _conv(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Cross-correlation, which both frameworks call convolution."""
    kernel, groups = weights["kernel"], int(hyper["groups"])
    spatial = kernel.ndim - 2
    data = pad_image(inputs[0], _per_axis(hyper["padding"], spatial, (0, 0)))
    outputs, depth, *window = kernel.shape
    if data.shape[1] != depth * groups or outputs % groups:
        raise ValueError(f"{data.shape[1]} channels do not fit a kernel of {kernel.shape}")
    stride, dilation = (_per_axis(hyper[name], spatial, 1) for name in ("stride", "dilation"))
    pieces = shifted_views(data, window, stride, dilation)
    # (N, C, elements, ...): the values that each element of the kernel is multiplied with.
    columns = np.stack(pieces, axis=2) if len(pieces) > 1 else pieces[0][:, :, None]
    batch, _, _, *sizes = columns.shape
    columns = columns.reshape(batch, groups, depth * math.prod(window), math.prod(sizes))
    output = kernel.reshape(groups, outputs // groups, -1) @ columns
    return _add_bias(output.reshape(batch, outputs, *sizes), weights)


def _conv_transpose(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Transposed convolution: every input value adds its product with the kernel to the output.

    `padding` is cropped from the whole output; where it is negative, zeros are added.
    """
    data, kernel, groups = inputs[0], weights["kernel"], int(hyper["groups"])
    channels, depth, *window = kernel.shape
    if data.ndim != kernel.ndim or data.shape[1] != channels or channels % groups:
        raise ValueError(f"an input of {data.shape} does not fit a kernel of {kernel.shape}")
    batch, _, *sizes = data.shape
    stride, dilation = (_per_axis(hyper[name], len(window), 1) for name in ("stride", "dilation"))
    grouped = kernel.reshape(groups, channels // groups, -1).swapaxes(1, 2)
    pieces = grouped @ data.reshape(batch, groups, channels // groups, math.prod(sizes))
    pieces = pieces.reshape(batch, groups * depth, math.prod(window), *sizes)
    extents = [
        windows.transposed_extent(size, kernel=k, stride=s, dilation=d)
        for size, k, s, d in zip(sizes, window, stride, dilation, strict=True)
    ]
    output = np.zeros((batch, groups * depth, *extents))
    for index, view in enumerate(shifted_views(output, window, stride, dilation)):
        np.add(view, pieces[:, :, index], out=view)
    padding = _per_axis(hyper["padding"], len(window), (0, 0))
    return _add_bias(pad_or_crop_image(output, [[-begin, -end] for begin, end in padding]), weights)


def _per_axis(values: Sequence[Any], spatial: int, default: Any) -> Sequence[Any]:
    """Return a value for each spatial axis; the defaults of an image fit every rank."""
    plain = len(values) != spatial and all(
        tuples_to_lists(v) == tuples_to_lists(default) for v in values
    )
    return (default,) * spatial if plain else values


def _add_bias(output: Array, weights: Mapping[str, Array]) -> Array:
    bias = weights.get("bias")
    return output if bias is None else output + along_axis(bias, output, 1)


def _is_depthwise(hyper: Mapping[str, Any]) -> bool:
    return bool(hyper["groups"] == hyper["in"] > 1)


_KERNEL = Role("kernel", "kernel", "weight", "O I ...", keras_axes="... I O")
# Both frameworks put output m of channel c at c·M + m.
_DEPTHWISE = Role("kernel", "kernel", "weight", "(C M) 1 ...", keras_axes="... C M")
_TRANSPOSED = Role("kernel", "kernel", "weight", "I O ...", keras_axes="... O I", outputs=1)

_SETTINGS = (
    Hyperparameter(
        "kernel",
        keras="kernel_size",
        torch="kernel_size",
        onnx="kernel_shape",
        convert=to_sizes,
        reshapes=True,
    ),
    Hyperparameter(
        "stride",
        (1, 1),
        keras="strides",
        torch="stride",
        onnx="strides",
        convert=to_sizes,
        reshapes=True,
    ),
    Hyperparameter(
        "padding", ((0, 0), (0, 0)), keras="padding", torch="padding", onnx="pads", reshapes=True
    ),
    Hyperparameter(
        "dilation",
        (1, 1),
        keras="dilation_rate",
        torch="dilation",
        onnx="dilations",
        convert=to_sizes,
        reshapes=True,
    ),
    Hyperparameter("groups", 1, keras="groups", torch="groups", onnx="group"),
    Hyperparameter("bias", keras="use_bias", torch="bias"),
    Hyperparameter("in", torch="in_channels"),
    Hyperparameter("out", keras="filters", torch="out_channels", reshapes=True),
    Hyperparameter("activation", "linear", keras="activation"),
)

KINDS = (
    Kind(
        "conv",
        _conv,
        windowed=True,
        channels_second=True,
        family="linear",
        phrase="convolution",
        roles=(_KERNEL, BIAS),
        hyperparameters=_SETTINGS,
        keras=("Conv2D",),
        torch=("Conv2d",),
        torch_functions=("conv1d", "conv2d", "conv3d"),
        onnx=("Conv",),
    ),
    Kind(
        "depthwise_conv",
        _conv,
        windowed=True,
        channels_second=True,
        family="linear",
        roles=(_DEPTHWISE, BIAS),
        hyperparameters=_SETTINGS,
        keras=("DepthwiseConv2D",),
        torch=("Conv2d",),
        torch_functions=("conv1d", "conv2d", "conv3d"),
        onnx=("Conv",),
        condition=_is_depthwise,
    ),
    Kind(
        "conv_transpose",
        _conv_transpose,
        windowed=True,
        channels_second=True,
        roles=(_TRANSPOSED, BIAS),
        # Keras's has no groups.
        hyperparameters=tuple(replace(s, keras="") if s.name == "groups" else s for s in _SETTINGS),
        keras=("Conv2DTranspose",),
        torch=("ConvTranspose2d",),
        torch_functions=("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        onnx=("ConvTranspose",),
    ),
)
