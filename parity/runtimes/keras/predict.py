"""Predictions of Keras models, compiled as `keras.Model.predict` compiles them, without XLA."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from parity.network import layouts
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import load
from parity.runtimes.keras.replicas import Replica

Array = NDArray[Any]


class Predictor(Protocol):
    """Computes a model's outputs."""

    def __call__(self, images: Array) -> Array:
        """Return the outputs of images (N, C, H, W)."""


class CompiledPredictor:
    """A model's compiled predict function."""

    def __init__(self, model: keras.Model, device: str = "cpu") -> None:
        self._model = model
        self._device = device
        self._dtype = str(model.dtype) if model.layers else "float32"
        # Keras chooses XLA by itself, which compiles for each batch size and sums in another order.
        model.jit_compile = False

    def __call__(self, images: Array) -> Array:
        data = arrange(self._model, images).astype(np.dtype(_numpy_dtype(self._dtype)))
        # What is traced within the call asks for the default dtype, too.
        with load.default_dtype(self._dtype), keras_device.device_scope(self._device):
            return np.asarray(self._model.predict_on_batch(data))


class ReplicaPredictor:
    """A model that computes with the weights of a replica, layer by layer."""

    def __init__(self, model: Any, replica: Replica) -> None:
        self._model = model
        self._replica = replica

    def __call__(self, images: Array) -> Array:
        data = arrange(self._model, images)
        with self._replica.applied() as model:
            tensor = keras.ops.cast(keras.ops.convert_to_tensor(data), self._replica.dtype)
            return np.asarray(keras.ops.convert_to_numpy(model(tensor, training=False)))


def arrange(model: Any, images: Array) -> Array:
    """Return images (N, C, H, W) in the order of axes that the model's input declares.

    Channels are last unless only the other order fits the declared shape.
    """
    shape = getattr(model, "input_shape", None)
    last = np.ascontiguousarray(layouts.to_nhwc(images))
    if isinstance(shape, tuple) and len(shape) == 4:
        declared = shape[1:]
        if not _fits(declared, last.shape[1:]) and _fits(declared, images.shape[1:]):
            return images
    return last


def _fits(declared: tuple[Any, ...], actual: tuple[int, ...]) -> bool:
    return all(d in (None, a) for d, a in zip(declared, actual, strict=True))


def _numpy_dtype(dtype: str) -> str:
    # NumPy has no bfloat16; Keras casts float32 to it.
    return "float32" if dtype == "bfloat16" else dtype
