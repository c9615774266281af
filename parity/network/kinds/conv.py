"""Convolutions over images: plain and grouped, depthwise, transposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import windows
from parity.network.arrays import add_bias, pad_image, pad_or_crop_image, shifted_views
from parity.network.kind import BIAS, Hyperparameter, Kind, Role, to_pair

Array = NDArray[np.float64]


def _conv(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Cross-correlation, which both frameworks call convolution."""
    kernel, groups = weights["kernel"], int(hyper["groups"])
    data = pad_image(inputs[0], hyper["padding"])
    outputs, depth, height, width = kernel.shape
    if data.shape[1] != depth * groups or outputs % groups:
        raise ValueError(f"{data.shape[1]} channels do not fit a kernel of {kernel.shape}")
    pieces = shifted_views(data, (height, width), hyper["stride"], hyper["dilation"])
    # (N, C, kh·kw, rows, columns): the values that each element of the kernel is multiplied with.
    columns = np.stack(pieces, axis=2) if len(pieces) > 1 else pieces[0][:, :, None]
    batch, _, _, rows, cols = columns.shape
    columns = columns.reshape(batch, groups, depth * height * width, rows * cols)
    output = kernel.reshape(groups, outputs // groups, -1) @ columns
    return add_bias(output.reshape(batch, outputs, rows, cols), weights)


def _conv_transpose(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Transposed convolution: every input value adds its product with the kernel to the output.

    `padding` is cropped from the whole output; where it is negative, zeros are added.
    """
    data, kernel, groups = inputs[0], weights["kernel"], int(hyper["groups"])
    channels, depth, height, width = kernel.shape
    if data.ndim != 4 or data.shape[1] != channels or channels % groups:
        raise ValueError(f"an input of {data.shape} does not fit a kernel of {kernel.shape}")
    batch, _, rows, cols = data.shape
    grouped = kernel.reshape(groups, channels // groups, -1).swapaxes(1, 2)
    pieces = grouped @ data.reshape(batch, groups, channels // groups, rows * cols)
    pieces = pieces.reshape(batch, groups * depth, height, width, rows, cols)
    sizes = [
        windows.transposed_extent(size, kernel=k, stride=s, dilation=d)
        for size, k, s, d in zip(
            (rows, cols), (height, width), hyper["stride"], hyper["dilation"], strict=True
        )
    ]
    output = np.zeros((batch, groups * depth, *sizes))
    views = shifted_views(output, (height, width), hyper["stride"], hyper["dilation"])
    for index, view in enumerate(views):
        np.add(view, pieces[:, :, index // width, index % width], out=view)
    crop = [[-begin, -end] for begin, end in hyper["padding"]]
    return add_bias(pad_or_crop_image(output, crop), weights)


def _is_depthwise(hyper: Mapping[str, Any]) -> bool:
    return bool(hyper["groups"] == hyper["in"] > 1)


_KERNEL = Role("kernel", "kernel", "weight", "O I ...", keras_axes="... I O")
# Both frameworks put output m of channel c at c·M + m.
_DEPTHWISE = Role("kernel", "kernel", "weight", "(C M) 1 H W", keras_axes="H W C M")
_TRANSPOSED = Role("kernel", "kernel", "weight", "I O ...", keras_axes="... O I", outputs=1)

_SETTINGS = (
    Hyperparameter(
        "kernel",
        keras="kernel_size",
        torch="kernel_size",
        onnx="kernel_shape",
        convert=to_pair,
        reshapes=True,
    ),
    Hyperparameter(
        "stride",
        (1, 1),
        keras="strides",
        torch="stride",
        onnx="strides",
        convert=to_pair,
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
        convert=to_pair,
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
        phrase="convolution",
        roles=(_KERNEL, BIAS),
        hyperparameters=_SETTINGS,
        keras=("Conv2D",),
        torch=("Conv2d",),
        torch_functions=("conv2d",),
        onnx=("Conv",),
    ),
    Kind(
        "depthwise_conv",
        _conv,
        roles=(_DEPTHWISE, BIAS),
        hyperparameters=_SETTINGS,
        keras=("DepthwiseConv2D",),
        torch=("Conv2d",),
        torch_functions=("conv2d",),
        onnx=("Conv",),
        condition=_is_depthwise,
    ),
    Kind(
        "conv_transpose",
        _conv_transpose,
        roles=(_TRANSPOSED, BIAS),
        # Keras's has no groups.
        hyperparameters=tuple(replace(s, keras="") if s.name == "groups" else s for s in _SETTINGS),
        keras=("Conv2DTranspose",),
        torch=("ConvTranspose2d",),
        torch_functions=("conv_transpose2d",),
        onnx=("ConvTranspose",),
    ),
)
