"""Pooling: the largest value or the mean of a window, or of the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import windows
from parity.network.arrays import pad_image, shifted_views
from parity.network.kind import Hyperparameter, Kind, Operator, to_pair

Array = NDArray[np.float64]


def _max_pool(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    value = 0.0 if hyper["pad_value"] == "0" else -math.inf
    data = pad_image(inputs[0], hyper["padding"], value)
    data = pad_image(data, _ceil_padding(inputs[0], hyper), -math.inf)
    first, *others = shifted_views(data, hyper["kernel"], hyper["stride"], hyper["dilation"])
    output = first.copy()
    for piece in others:
        np.maximum(output, piece, out=output)
    return output


def _avg_pool(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """The sum over the window, divided by the number of elements that count.

    Padding counts if `count_padding` is set; the elements that `ceil` adds never count.
    """
    extra = _ceil_padding(inputs[0], hyper)
    counted = np.ones((1, 1, *inputs[0].shape[2:]))
    counted = pad_image(counted, hyper["padding"], float(hyper["count_padding"]))
    total, count = (
        sum(shifted_views(pad_image(tensor, extra), hyper["kernel"], hyper["stride"]))
        for tensor in (pad_image(inputs[0], hyper["padding"]), counted)
    )
    return np.asarray(total / count)


def _ceil_padding(data: Array, hyper: Mapping[str, Any]) -> list[list[int]]:
    """Return the elements that `ceil` adds after the padding: [[0, bottom], [0, right]]."""
    if not hyper["ceil"]:
        return [[0, 0], [0, 0]]
    dilation = hyper.get("dilation", (1, 1))
    return [
        [0, windows.ceil_extension(size, kernel=k, stride=s, padding=(low, high), dilation=d)]
        for size, k, s, (low, high), d in zip(
            data.shape[2:],
            hyper["kernel"],
            hyper["stride"],
            hyper["padding"],
            dilation,
            strict=True,
        )
    ]


def _global(reduce: Callable[..., Any]) -> Operator:
    """Return the pooling of the whole image, or of `size` even parts (PyTorch's
    adaptive pooling).
    """

    def compute(
        inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
    ) -> Array:
        data, (height, width) = inputs[0], hyper["size"]
        if (height, width) == (1, 1):
            return np.asarray(reduce(data, axis=(2, 3)))
        output = np.empty((*data.shape[:2], height, width))
        for i, rows in enumerate(_parts(data.shape[2], height)):
            for j, cols in enumerate(_parts(data.shape[3], width)):
                output[:, :, i, j] = reduce(data[:, :, rows, cols], axis=(2, 3))
        return output

    return compute


def _parts(size: int, count: int) -> list[slice]:
    """Return `count` parts of an axis; i is [⌊i·n/m⌋, ⌈(i + 1)·n/m⌉):
    ATen/native/AdaptivePooling.h.
    """
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


_WINDOW = (
    Hyperparameter(
        "kernel",
        keras="pool_size",
        torch="kernel_size",
        onnx="kernel_shape",
        convert=to_pair,
        reshapes=True,
    ),
    Hyperparameter(
        "stride", keras="strides", torch="stride", onnx="strides", convert=to_pair, reshapes=True
    ),
    Hyperparameter(
        "padding", ((0, 0), (0, 0)), keras="padding", torch="padding", onnx="pads", reshapes=True
    ),
    Hyperparameter("ceil", False, torch="ceil_mode", onnx="ceil_mode", reshapes=True),
)
_SIZE = (
    Hyperparameter(
        "size", (1, 1), torch="output_size", convert=to_pair, reshapes=True, optional=True
    ),
)

KINDS = (
    Kind(
        "max_pool",
        _max_pool,
        hyperparameters=(
            *_WINDOW,
            Hyperparameter(
                "dilation",
                (1, 1),
                torch="dilation",
                onnx="dilations",
                convert=to_pair,
                reshapes=True,
            ),
            # "0" where a padding layer before the pool pads with zeros.
            Hyperparameter("pad_value", "-inf"),
        ),
        keras=("MaxPooling2D",),
        torch=("MaxPool2d",),
        torch_functions=("max_pool2d",),
        onnx=("MaxPool",),
    ),
    Kind(
        "avg_pool",
        _avg_pool,
        hyperparameters=(
            *_WINDOW,
            Hyperparameter(
                "count_padding", True, torch="count_include_pad", onnx="count_include_pad"
            ),
        ),
        keras=("AveragePooling2D",),
        torch=("AvgPool2d",),
        torch_functions=("avg_pool2d",),
        onnx=("AveragePool",),
    ),
    Kind(
        "global_max_pool",
        _global(np.max),
        hyperparameters=_SIZE,
        keras=("GlobalMaxPooling2D",),
        torch=("AdaptiveMaxPool2d",),
        torch_functions=("adaptive_max_pool2d",),
        onnx=("GlobalMaxPool",),
        pools_image=True,
    ),
    Kind(
        "global_avg_pool",
        _global(np.mean),
        hyperparameters=_SIZE,
        keras=("GlobalAveragePooling2D",),
        torch=("AdaptiveAvgPool2d",),
        torch_functions=("adaptive_avg_pool2d",),
        onnx=("GlobalAveragePool",),
        pools_image=True,
        averages=True,
    ),
)
