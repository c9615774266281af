"""How a Keras model is called while it is exported: on TensorFlow, eagerly, in either layout."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.function import Function

from exporters.errors import ExportError
from exporters.graph import layout
from exporters.graph.model import Array


def to_array(tensor: Any) -> Array:
    """Return a tensor's values: without a copy if it has axes; NumPy takes no bfloat16 without."""
    return np.asarray(tensor if tensor.ndim else tensor.numpy())


def check_model(model: object) -> None:
    """Raise ExportError unless it is a Keras model, and Keras runs on TensorFlow."""
    if not isinstance(model, keras.Model):
        raise ExportError(_describe_stranger(model))
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow to export"
        )


def check_mapping(value: object, name: str) -> None:
    """Raise ExportError unless an argument is a dictionary of strings, or None."""
    if value is None:
        return
    strings = isinstance(value, Mapping) and all(
        isinstance(item, str) for pair in value.items() for item in pair
    )
    if not strings:
        raise ExportError(f"{name}: expected a dictionary of strings, found {value!r}"[:200])


def _describe_stranger(model: object) -> str:
    """Return what something else than a Keras model is, and how to get a Keras model from it."""
    if isinstance(model, (str, os.PathLike)):
        return (
            f"expected a Keras model, found the path {os.fspath(model)!r}: load it first, with"
            " keras.saving.load_model"
        )
    is_layer = isinstance(model, keras.layers.Layer)
    if not is_layer and (isinstance(model, tf.Module) or hasattr(model, "signatures")):
        return (
            "expected a Keras model, found a TensorFlow module (a SavedModel holds no Keras model):"
            " load the .keras file that it was made from"
        )
    if is_layer:
        name = getattr(model, "name", "")
        return f"expected a Keras model, found the layer {name!r}: put it in a Sequential"
    return f"expected a Keras model, found {type(model).__name__}"


def move_channels(tensor: Any, *, first: bool) -> Any:
    """Move the channels of a spatial tensor (4 or 5 axes) first or last; leave others alone."""
    rank = len(tensor.shape)
    if rank not in (4, 5):
        return tensor
    last = layout.channels_last(rank)
    return tf.transpose(tensor, [int(axis) for axis in np.argsort(last)] if first else last)


@contextmanager
def eager_functions() -> Iterator[None]:
    """While open, TensorFlow runs the bodies of `tf.function` eagerly."""
    # Keras wraps each grouped convolution in tf.function(jit_compile=True); traced as it is, it is
    # a StatefulPartitionedCall that tf2onnx cannot convert (tensorflow-onnx #2099). Run eagerly,
    # its body goes into the graph around it. The switch is global, so it is put back.
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextmanager
def short_lived_tensors() -> Iterator[None]:
    """While open, a functional model drops each tensor once no layer reads it any more.

    Keras keeps all of them until the call ends, which for a deep network is several times the
    memory of its weights.
    """
    if not hasattr(Function, "_run_through_graph"):  # the name is Keras's own
        yield
        return
    with mock.patch.object(Function, "_run_through_graph", _run_through_graph):
        yield


def _run_through_graph(
    self: Any, inputs: Any, operation_fn: Any = lambda operation: operation, call_fn: Any = None
) -> Any:
    """Do what Keras's own method does, which has the parameters, and drop the tensors."""
    values = {id(x): y for x, y in zip(self.inputs, keras.tree.flatten(inputs), strict=False)}
    nodes = [
        node
        for depth in sorted(self._nodes_by_depth, reverse=True)
        for node in self._nodes_by_depth[depth]
        if node.operation and not node.is_input
    ]
    last_readers = {id(x): node for node in nodes for x in node.input_tensors}
    kept = {id(x) for x in self.outputs}
    for node in nodes:
        if not all(id(x) in values for x in node.input_tensors):
            continue
        args, kwargs = node.arguments.fill_in(values)
        for key in {id(x) for x in node.input_tensors} - kept:
            if last_readers[key] is node:
                del values[key]
        operation = operation_fn(node.operation)
        results = call_fn(operation, *args, **kwargs) if call_fn else operation(*args, **kwargs)
        args, kwargs = (), {}
        values |= {
            id(x): y for x, y in zip(node.outputs, keras.tree.flatten(results), strict=False)
        }
        results = None
    return keras.tree.pack_sequence_as(self._outputs_struct, [values[id(x)] for x in self.outputs])
