"""Pooling: the largest value or the mean of a window, or of the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import windows
from parity.network.arrays import pad_image, shifted_views
from parity.network.kind import Hyperparameter, Kind, Operator, to_sizes

Array = NDArray[np.float64]


def _max_pool(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    value = 0.0 if hyper["pad_value"] == "0" else -math.inf
    hyper = _per_axis(hyper)
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
    hyper = _per_axis(hyper)
    extra = _ceil_padding(inputs[0], hyper)
    counted = np.ones((1, 1, *inputs[0].shape[2:]))
    counted = pad_image(counted, hyper["padding"], float(hyper["count_padding"]))
    total, count = (
        sum(shifted_views(pad_image(tensor, extra), hyper["kernel"], hyper["stride"]))
        for tensor in (pad_image(inputs[0], hyper["padding"]), counted)
    )
    return np.asarray(total / count)


def _per_axis(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the defaults of an image's padding and dilation in every rank."""
    spatial = len(hyper["kernel"])
    found = {**hyper}
    for name, default in (("padding", (0, 0)), ("dilation", 1)):
        values = hyper.get(name, (default,))
        if all(np.array_equal(value, default) for value in values):
            found[name] = (default,) * spatial
    return found


def _ceil_padding(data: Array, hyper: Mapping[str, Any]) -> list[list[int]]:
    """Return the elements that `ceil` adds after the padding: [[0, bottom], [0, right]]."""
    if not hyper["ceil"]:
        return [[0, 0] for _ in data.shape[2:]]
    return [
        [0, windows.ceil_extension(size, kernel=k, stride=s, padding=(low, high), dilation=d)]
        for size, k, s, (low, high), d in zip(
            data.shape[2:],
            hyper["kernel"],
            hyper["stride"],
            hyper["padding"],
            hyper["dilation"],
            strict=True,
        )
    ]


def _global(reduce: Callable[..., Any]) -> Operator:
    """Return the pooling of the whole image, or of `size` even parts (PyTorch's
    adaptive pooling). One value a channel is (N, C).
    """

    def compute(
        inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
    ) -> Array:
        data, sizes = inputs[0], tuple(hyper["size"])
        spatial = data.ndim - 2
        if spatial < 1:
            raise ValueError(f"{data.shape} has no spatial axes")
        if set(sizes) == {1}:
            return np.asarray(reduce(data, axis=tuple(range(2, data.ndim))))
        output = np.empty((*data.shape[:2], *sizes))
        parts = [_parts(n, m) for n, m in zip(data.shape[2:], sizes, strict=True)]
        for place in np.ndindex(*sizes):
            window = tuple(parts[axis][index] for axis, index in enumerate(place))
            output[(..., *place)] = reduce(data[(..., *window)], axis=tuple(range(2, data.ndim)))
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
        convert=to_sizes,
        reshapes=True,
    ),
    Hyperparameter(
        "stride", keras="strides", torch="stride", onnx="strides", convert=to_sizes, reshapes=True
    ),
    Hyperparameter(
        "padding", ((0, 0), (0, 0)), keras="padding", torch="padding", onnx="pads", reshapes=True
    ),
    Hyperparameter("ceil", False, torch="ceil_mode", onnx="ceil_mode", reshapes=True),
)
_SIZE = (
    Hyperparameter(
        "size", (1, 1), torch="output_size", convert=to_sizes, reshapes=True, optional=True
    ),
)

KINDS = (
    Kind(
        "max_pool",
        _max_pool,
        windowed=True,
        channels_second=True,
        landmark="max",
        hyperparameters=(
            *_WINDOW,
            Hyperparameter(
                "dilation",
                (1, 1),
                torch="dilation",
                onnx="dilations",
                convert=to_sizes,
                reshapes=True,
            ),
            # "0" where a padding layer before the pool pads with zeros.
            Hyperparameter("pad_value", "-inf"),
        ),
        keras=("MaxPooling2D",),
        torch=("MaxPool2d",),
        torch_functions=("max_pool1d", "max_pool2d", "max_pool3d"),
        onnx=("MaxPool",),
        has_kink=True,
    ),
    Kind(
        "avg_pool",
        _avg_pool,
        windowed=True,
        channels_second=True,
        landmark="average",
        maximum="max_pool",
        hyperparameters=(
            *_WINDOW,
            Hyperparameter(
                "count_padding", True, torch="count_include_pad", onnx="count_include_pad"
            ),
        ),
        keras=("AveragePooling2D",),
        torch=("AvgPool2d",),
        torch_functions=("avg_pool1d", "avg_pool2d", "avg_pool3d"),
        onnx=("AveragePool",),
    ),
    Kind(
        "global_max_pool",
        _global(np.max),
        windowed=True,
        channels_second=True,
        landmark="whole max",
        hyperparameters=_SIZE,
        keras=("GlobalMaxPooling2D",),
        torch=("AdaptiveMaxPool2d",),
        torch_functions=("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
        onnx=("GlobalMaxPool",),
        pools_image=True,
        has_kink=True,
        torch_reduction="amax",
    ),
    Kind(
        "global_avg_pool",
        _global(np.mean),
        windowed=True,
        channels_second=True,
        family="average",
        landmark="whole",
        maximum="global_max_pool",
        hyperparameters=_SIZE,
        keras=("GlobalAveragePooling2D",),
        torch=("AdaptiveAvgPool2d",),
        torch_functions=("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
        onnx=("GlobalAveragePool",),
        pools_image=True,
        averages=True,
        torch_reduction="mean",
    ),
)
