"""Building Keras models: registered twins, the user's own by a callable, in any dtype."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from parity.errors import UsageError
from parity.network import callables
from parity.network.spec import ModelSpec


def build_twin(spec: ModelSpec) -> keras.Model:
    """Build the registered twin; its kernels are zeros."""
    module = importlib.import_module(f"parity.network.models.{spec.family}.keras")
    with zero_initializers():
        return module.build(spec)


def build_initialized_twin(spec: ModelSpec, *, seed: int) -> keras.Model:
    """Build the registered twin with the weights that Keras's own initialisers draw."""
    module = importlib.import_module(f"parity.network.models.{spec.family}.keras")
    keras.utils.set_random_seed(seed)
    return module.build(spec)


def build_from_callable(callable_path: str) -> keras.Model:
    """Call the user's `module:callable`; raises `UsageError` if that is no `keras.Model`."""
    model = callables.call(callable_path)
    if not isinstance(model, keras.Model):
        raise UsageError(f"'{callable_path}': expected a keras.Model, found {type(model).__name__}")
    return model


@contextmanager
def default_dtype(dtype: str) -> Iterator[None]:
    """While open, layers are built in `dtype` unless they set a dtype of their own."""
    float_type, policy = keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        yield
    finally:
        keras.config.set_floatx(float_type)
        keras.config.set_dtype_policy(policy)


@contextmanager
def zero_initializers() -> Iterator[None]:
    """While open, kernels are built as zeros: no random number is drawn to be overwritten."""
    draw = keras.initializers.GlorotUniform.__call__

    def zeros(self: Any, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.zeros(shape, dtype)

    keras.initializers.GlorotUniform.__call__ = zeros
    try:
        yield
    finally:
        keras.initializers.GlorotUniform.__call__ = draw
