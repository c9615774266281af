"""What TensorFlow computes in float32 even on float64, computed in float64.

Some activations round their constants: a slope of 0.01 is then off by 2e-8 of itself. Resizes give
float32 whatever they are given, and pools over three axes take nothing else. That is no difference
of two models, and a comparison in float64 would report it as one.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.network import windows
from parity.runtimes.keras import device as keras_device

Array = NDArray[Any]


def install() -> None:
    """Replace Keras's activations by the formulas below, for float64 inputs alone.

    Nothing is changed on another backend, or where Keras defines them elsewhere.
    """
    if keras.backend.backend() != "tensorflow":
        return
    try:
        module = importlib.import_module("keras.src.backend.tensorflow.nn")
    except ImportError:
        return
    for formula in (leaky_relu, gelu):
        original = getattr(module, formula.__name__, None)
        if original is not None:
            setattr(module, formula.__name__, _dispatch_float64(original, formula))


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """Return x where it is above 0, and `negative_slope` times x elsewhere."""
    tf = keras_device.import_backend()
    return tf.where(x > 0, x, tf.constant(negative_slope, tf.float64) * x)


def gelu(x: Any, approximate: bool = True) -> Any:
    """Return x·Φ(x), by erf or, if `approximate`, by tanh (arXiv:1606.08415)."""
    tf = keras_device.import_backend()

    def constant(value: float) -> Any:
        return tf.constant(value, tf.float64)

    if approximate:
        inner = constant(math.sqrt(2.0 / math.pi)) * (x + constant(0.044715) * x * x * x)
        return constant(0.5) * x * (constant(1.0) + tf.tanh(inner))
    return constant(0.5) * x * (constant(1.0) + tf.math.erf(x / constant(math.sqrt(2.0))))


def _dispatch_float64(
    original: Callable[..., Any], formula: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a function that calls `formula` on float64 inputs and `original` on others."""

    @functools.wraps(original)
    def activation(x: Any, *args: Any, **kwargs: Any) -> Any:
        is_float64 = getattr(x, "dtype", None) == keras_device.import_backend().float64
        return (formula if is_float64 else original)(x, *args, **kwargs)

    return activation


def compute(name: str, inputs: Sequence[Array], settings: Mapping[str, Any]) -> Array | None:
    """Return the result of an operation of TensorFlow in float64; None where it is not known here.

    `settings` are its attributes.
    """
    if name in ("ResizeBilinear", "ResizeBicubic"):
        return _resize(name, inputs[0], [int(length) for length in inputs[1]], settings)
    if name in ("MaxPool3D", "AvgPool3D"):
        return _pool(name, inputs[0], settings)
    if name == "ScaleAndTranslate":
        return _scale_and_translate(inputs, settings)
    return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pool(name: str, data: Array, settings: Mapping[str, Any]) -> Array | None:
    """Return the largest values, or the means, of the windows over (N, D, H, W, C).

    Padding counts in neither.
    """
    if _text(settings.get("data_format", "NDHWC")) != "NDHWC":
        return None
    kernel, strides = list(settings["ksize"]), list(settings["strides"])
    pairs = [(0, 0)] * data.ndim
    if _text(settings["padding"]) == "SAME":
        pairs = [
            windows.same_padding(n, kernel=k, stride=s)
            for n, k, s in zip(data.shape, kernel, strides, strict=True)
        ]
    places = tuple(slice(None, None, step) for step in strides)
    inside = tuple(range(data.ndim, 2 * data.ndim))

    def slide(values: Array, border: float) -> Array:
        padded = np.pad(values, pairs, constant_values=border)
        return np.lib.stride_tricks.sliding_window_view(padded, kernel)[places]

    if name == "MaxPool3D":
        return np.ascontiguousarray(slide(data, -np.inf).max(axis=inside))
    count = slide(np.ones_like(data), 0.0).sum(axis=inside)
    return np.ascontiguousarray(slide(data, 0.0).sum(axis=inside) / count)


def _apply(matrix: Array, data: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(matrix, data, axes=(1, axis)), 0, axis)


def _scale_and_translate(inputs: Sequence[Array], settings: Mapping[str, Any]) -> Array | None:
    """Return images (N, H, W, C) resampled: `scale_and_translate_op.cc`."""
    data, size, scales, shifts = inputs
    kernel = {"triangle": (_triangle, 1.0), "keyscubic": (_keys, 2.0)}.get(
        _text(settings["kernel_type"])
    )
    if kernel is None:
        return None
    function, radius = kernel
    for axis in (0, 1):
        old, new = data.shape[axis + 1], int(size[axis])
        inverse = 1.0 / float(scales[axis])
        spread = max(inverse, 1.0) if settings["antialias"] else 1.0
        matrix = np.zeros((new, old))
        for row in range(new):
            place = (row + 0.5 - float(shifts[axis])) * inverse
            if not 0 <= place <= old:
                continue
            first = max(math.ceil(place - radius * spread - 0.5), 0)
            last = min(math.floor(place + radius * spread - 0.5), old - 1)
            for column in range(first, last + 1):
                matrix[row, column] = function((column + 0.5 - place) / spread)
            total = matrix[row].sum()
            matrix[row] /= total if abs(total) > 1000 * np.finfo(np.float32).tiny else 1.0
        data = _apply(matrix, data, axis + 1)
    return np.ascontiguousarray(data)


def _triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _keys(x: float) -> float:
    """Return Keys's cubic kernel (1981), a = −0.5."""
    x = abs(x)
    if x >= 2.0:
        return 0.0
    if x >= 1.0:
        return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ((1.5 * x - 2.5) * x) * x + 1.0


def _resize(name: str, data: Array, size: Sequence[int], settings: Mapping[str, Any]) -> Array:
    """Return images (N, H, W, C) resized to `size`, (H, W).

    Sources: `resize_bilinear_op.cc`, and `resize_bicubic_op.cc`, whose weights are those of the
    nearest of 1024 offsets.
    """
    weigh = _weigh_linear if name == "ResizeBilinear" else _weigh_cubic
    half = bool(settings["half_pixel_centers"])
    for axis, new in zip((1, 2), size, strict=True):
        old = data.shape[axis]
        matrix = np.zeros((new, old))
        for row in range(new):
            if settings["align_corners"] and new > 1:
                place = row * (old - 1) / (new - 1)
            elif half:
                place = (row + 0.5) * old / new - 0.5
            else:
                place = row * old / new
            for column, weight in weigh(place, old, half):
                matrix[row, column] += weight
        data = _apply(matrix, data, axis)
    return np.ascontiguousarray(data)


def _weigh_linear(place: float, size: int, half_pixel_centers: bool) -> list[tuple[int, float]]:
    low = max(math.floor(place), 0)
    high = min(math.ceil(place), size - 1)
    part = place - math.floor(place)
    return [(min(low, size - 1), 1.0 - part), (high, part)]


def _weigh_cubic(place: float, size: int, half_pixel_centers: bool) -> list[tuple[int, float]]:
    """Keys (1981), a = −0.5 with half-pixel centres, where weights outside the image are left out
    and the others divided by their sum; a = −0.75 and the border's value without."""
    a = -0.5 if half_pixel_centers else -0.75
    low = math.floor(place)
    part = round((place - low) * 1024) / 1024

    def near(t: float) -> float:
        return ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0

    def far(t: float) -> float:
        return ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a

    weights = (far(part + 1.0), near(part), near(1.0 - part), far(2.0 - part))
    pairs = [(low + offset, weight) for offset, weight in zip((-1, 0, 1, 2), weights, strict=True)]
    if half_pixel_centers:
        inside = [(index, weight) for index, weight in pairs if 0 <= index < size]
        total = sum(weight for _, weight in inside)
        return [(index, weight / total) for index, weight in inside]
    return [(min(max(index, 0), size - 1), weight) for index, weight in pairs]
