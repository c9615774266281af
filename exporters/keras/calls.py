"""How a Keras model is called: its inputs and outputs, in inference mode, in either layout."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporters.errors import ExportError
from exporters.graph import layout


def require_tensorflow() -> None:
    """Raise ExportError unless Keras runs on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow to export"
        )


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Add _1, _2, … to names that occur again, in order."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        distinct.append(f"{name}_{count}" if count else name)
    return tuple(distinct)


def input_specs(model: keras.Model) -> list[tf.TensorSpec]:
    """Return name, shape (batch None) and dtype of each input, in the model's order."""
    tensors = getattr(model, "inputs", None)
    if tensors:
        # Keras numbers unnamed inputs globally, so one model built twice has different names.
        default = "input" if len(tensors) == 1 else "input_{}"
        return [
            tf.TensorSpec(
                (None, *tensor.shape[1:]),
                tensor.dtype,
                default.format(i) if tensor.name.startswith("keras_tensor") else tensor.name,
            )
            for i, tensor in enumerate(tensors)
        ]
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes:
        raise ExportError(f"{model.name} has no input shape yet: call it once on a batch")
    flat = [shape for shape in shapes.values() if isinstance(shape, tuple)]
    if len(flat) != len(shapes):
        raise ExportError(f"{model.name}: inputs of a subclassed model must be plain tensors")
    names = ["input"] if len(flat) == 1 else [name.removesuffix("_shape") for name in shapes]
    return [
        tf.TensorSpec((None, *shape[1:]), model.input_dtype or model.compute_dtype, name)
        for shape, name in zip(flat, names, strict=True)
    ]


def output_names(model: keras.Model, count: int) -> tuple[str, ...]:
    """Return the model's output names, or `output` or `output_0`, … where it has none."""
    names = list(getattr(model, "output_names", None) or [])
    if len(names) != count:
        names = ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
    return unique_names(names)


def call_arguments(model: keras.Model, tensors: Sequence[Any]) -> list[Any]:
    """Return the positional arguments of the model's call for flat `tensors`."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is not None:
        return [keras.tree.pack_sequence_as(structure, list(tensors))]
    return list(tensors)


def inference_keywords(model: keras.Model) -> dict[str, bool]:
    """Return the keyword for inference, for a model whose call takes it."""
    has_training = "training" in inspect.signature(model.call).parameters
    return {"training": False} if has_training else {}


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
