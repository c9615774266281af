"""Activations of TensorFlow that round their constants to float32 even in float64.

A slope of 0.01 is then off by 2e-8 of itself. That is no difference of two models, and a comparison
in float64 would report it as one.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import keras

from parity.runtimes.keras import device as keras_device


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
    tf = keras_device.backend()
    return tf.where(x > 0, x, tf.constant(negative_slope, tf.float64) * x)


def gelu(x: Any, approximate: bool = True) -> Any:
    """Return x·Φ(x), by erf or, if `approximate`, by tanh (arXiv:1606.08415)."""
    tf = keras_device.backend()

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
        is_float64 = getattr(x, "dtype", None) == keras_device.backend().float64
        return (formula if is_float64 else original)(x, *args, **kwargs)

    return activation
