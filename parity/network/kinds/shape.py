"""Layers that compute no new features: identity, flatten, reshape, padding, resizing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import layouts
from parity.network.arrays import pad_or_crop_image
from parity.network.kind import Hyperparameter, Kind, to_pair

Array = NDArray[np.float64]


def _identity(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return inputs[0]


def _flatten(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return inputs[0].reshape(inputs[0].shape[0], -1)


def _reshape(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Reshape to (N, *target), channels first; one size of `target` may be -1.

    With `channels_last` the values are read and written in Keras's order, (N, H, W, C).
    """
    data, target = inputs[0], tuple(hyper["target"])
    if not hyper["channels_last"]:
        return data.reshape(data.shape[0], *target)
    last = (*target[1:], target[0]) if len(target) == 3 else target
    moved = layouts.to_nhwc(data).reshape(data.shape[0], *last)
    return np.asarray(layouts.to_nchw(moved), np.float64)


def _pad(inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]) -> Array:
    """Pad by [[top, bottom], [left, right]]; a negative number crops."""
    return pad_or_crop_image(inputs[0], hyper["padding"], hyper["value"])


def _upsample(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Resize to `size`, (H, W), or by `scale`; `mode` is nearest or bilinear."""
    output = inputs[0]
    if output.ndim != 4:
        raise ValueError(f"expected (N, C, H, W), found {output.shape}")
    factors = _factors(hyper["scale"]) if hyper.get("size") is None else (None, None)
    for axis, factor in zip((2, 3), factors, strict=True):
        # PyTorch uses the factor as given, even where the new size is rounded down.
        old = output.shape[axis]
        new = int(hyper["size"][axis - 2]) if factor is None else math.floor(old * factor)
        if hyper["mode"] == "nearest":
            output = output.take(_nearest(old, new, factor), axis=axis)
        elif hyper["mode"] == "bilinear":
            output = _interpolate(output, axis, _places(old, new, factor, hyper["align_corners"]))
        else:
            raise ValueError(f"there is no operator for the mode {hyper['mode']!r}")
    return output


def _nearest(old: int, new: int, factor: float | None) -> NDArray[np.int64]:
    """Return the source index of each output: `nearest_neighbor_compute_source_index` in
    ATen/native/UpSample.h, which computes in float32."""
    step = np.float32(old) / np.float32(new) if factor is None else np.float32(1.0 / factor)
    places = np.floor(np.arange(new, dtype=np.float32) * step)
    return np.asarray(np.minimum(places, old - 1), np.int64)


def _places(old: int, new: int, factor: float | None, align_corners: bool) -> Array:
    """Return the source coordinates: `area_pixel_compute_source_index` in
    ATen/native/UpSample.h.
    """
    index = np.arange(new, dtype=np.float64)
    if align_corners:
        return index * ((old - 1) / (new - 1) if new > 1 else 0.0)
    step = old / new if factor is None else 1.0 / factor
    return np.asarray(np.maximum((index + 0.5) * step - 0.5, 0.0))


def _interpolate(data: Array, axis: int, places: Array) -> Array:
    low = np.minimum(np.floor(places).astype(np.int64), data.shape[axis] - 1)
    high = np.minimum(low + 1, data.shape[axis] - 1)
    part = (places - low).reshape([-1 if dim == axis else 1 for dim in range(data.ndim)])
    left, right = data.take(low, axis=axis), data.take(high, axis=axis)
    return np.asarray(left * (1.0 - part) + right * part)


def _factors(value: Any) -> list[float]:
    values = value if isinstance(value, tuple | list) else (value, value)
    return [float(factor) for factor in values]


KINDS = (
    Kind(
        "identity",
        _identity,
        keras=("Identity",),
        torch=("Identity",),
        onnx=("Identity",),
        passive=True,
    ),
    Kind(
        "dropout",
        _identity,
        keras=("Dropout",),
        torch=("Dropout",),
        torch_functions=("dropout",),
        onnx=("Dropout",),
        passive=True,
    ),
    Kind(
        "flatten",
        _flatten,
        keras=("Flatten",),
        torch=("Flatten",),
        torch_functions=("flatten",),
        onnx=("Flatten",),
        passive=True,
    ),
    Kind(
        "reshape",
        _reshape,
        hyperparameters=(
            Hyperparameter("target", keras="target_shape", reshapes=True, optional=True),
            Hyperparameter("channels_last", False, optional=True),
        ),
        keras=("Reshape",),
        torch_functions=("reshape",),
        onnx=("Reshape",),
        passive=True,
    ),
    Kind(
        "pad",
        _pad,
        hyperparameters=(
            Hyperparameter(
                "padding",
                keras="padding",
                torch="padding",
                onnx="pads",
                reshapes=True,
                optional=True,
            ),
            Hyperparameter("value", 0.0, torch="value", convert=float, optional=True),
        ),
        keras=("ZeroPadding2D",),
        torch=("ZeroPad2d", "ConstantPad2d"),
        torch_functions=("pad",),
        onnx=("Pad",),
    ),
    Kind(
        "upsample",
        _upsample,
        hyperparameters=(
            Hyperparameter(
                "scale",
                keras="size",
                torch="scale_factor",
                convert=_factors,
                reshapes=True,
                optional=True,
            ),
            Hyperparameter("size", torch="size", convert=to_pair, reshapes=True, optional=True),
            Hyperparameter(
                "mode", "nearest", keras="interpolation", torch="mode", onnx="mode", optional=True
            ),
            Hyperparameter("align_corners", False, torch="align_corners", optional=True),
        ),
        keras=("UpSampling2D",),
        torch=("Upsample",),
        torch_functions=("interpolate",),
        onnx=("Resize", "Upsample"),
    ),
)
