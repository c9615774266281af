"""Layers of Keras that fail, or loop, in a graph where sizes vary."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import keras
import tensorflow as tf
from keras.src.ops import image as image_operations


@contextmanager
def allow_unknown_sizes() -> Iterator[None]:
    """While open, TimeDistributed takes any length, and images are resized to any size."""
    layer = keras.layers.TimeDistributed
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(layer, "call", _distribute(layer.call)))
        resize = _resize(image_operations.resize)
        for module in (image_operations, keras.ops.image):
            stack.enter_context(mock.patch.object(module, "resize", resize))
        yield


def _distribute(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return TimeDistributed's call, which for an unknown length treats the steps as samples.

    Keras runs as many steps as the batch has rows there.
    """

    @functools.wraps(call)
    def distributed(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        shape = inputs.shape
        if shape[1] is not None or mask is not None or None in shape[2:]:
            return call(self, inputs, training=training, mask=mask)
        steps = tf.reshape(inputs, [-1, *shape[2:]])
        keywords = {"training": training} if self.layer._call_has_training_arg else {}
        outputs = self.layer.call(steps, **keywords)
        sizes = tf.concat([tf.shape(inputs)[:2], tf.shape(outputs)[1:]], 0)
        result = tf.reshape(outputs, sizes)
        result.set_shape([shape[0], None, *outputs.shape[1:]])
        return result

    return distributed


def _resize(resize: Callable[..., Any]) -> Callable[..., Any]:
    """Return Keras's resize without its check that a size is positive, where one varies."""

    @functools.wraps(resize)
    def resized(images: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        if any(tf.is_tensor(number) for number in size):
            kwargs |= dict(zip(("interpolation", "antialias"), args, strict=False))
            return image_operations._resize(images, size, **kwargs)
        return resize(images, size, *args, **kwargs)

    return resized
