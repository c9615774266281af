"""Activations of TensorFlow that round their constants to float32 even in float64.

A slope of 0.01 is then off by 2e-8 of itself, which is no difference of two models, and would be
told as one by whoever compares them in float64.
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
    """Let Keras compute these in float64 by their formulas; other precisions stay as they are.

    Nothing is changed on another backend, or where Keras keeps them elsewhere.
    """
    if keras.backend.backend() != "tensorflow":
        return
    try:
        module = importlib.import_module("keras.src.backend.tensorflow.nn")
    except ImportError:
        return
    for exact in (leaky_relu, gelu):
        plain = getattr(module, exact.__name__, None)
        if plain is not None:
            setattr(module, exact.__name__, _in_float64(plain, exact))


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """x where it is above 0, `negative_slope` times x elsewhere."""
    tf = keras_device.backend()
    return tf.where(x > 0, x, tf.constant(negative_slope, tf.float64) * x)


def gelu(x: Any, approximate: bool = True) -> Any:
    """x·Φ(x), by erf or, `approximate`, by tanh (Hendrycks and Gimpel, arXiv:1606.08415)."""
    tf = keras_device.backend()

    def real(value: float) -> Any:
        return tf.constant(value, tf.float64)

    if approximate:
        inner = real(math.sqrt(2.0 / math.pi)) * (x + real(0.044715) * x * x * x)
        return real(0.5) * x * (real(1.0) + tf.tanh(inner))
    return real(0.5) * x * (real(1.0) + tf.math.erf(x / real(math.sqrt(2.0))))


def _in_float64(plain: Callable[..., Any], exact: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def chosen(x: Any, *given: Any, **named: Any) -> Any:
        is_float64 = getattr(x, "dtype", None) == keras_device.backend().float64
        return (exact if is_float64 else plain)(x, *given, **named)

    return chosen
