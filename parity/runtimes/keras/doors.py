"""The private parts of Keras and TensorFlow that a recording needs, and what is one operation.

This file and `recorder` alone use what Keras and TensorFlow do not promise to keep: TensorFlow's op
callbacks and the two functions by which Python executes an operation, Keras's `Layer.__call__`,
`Operation.__call__`, `Node.__init__`, and the functions of its TensorFlow backend.
`tests/runtimes/test_keras_recorder.py` pins each of them.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras

from parity.errors import GraphError


@dataclass(frozen=True)
class Doors:
    """The private parts of Keras and TensorFlow that a recording needs."""

    layer: Any
    operation: Any
    node: Any
    function: Any
    nn: Any
    numpy: Any
    activations: Any
    tf: Any
    op_callbacks: Any
    execute: Any
    pywrap_tfe: Any
    tf_function: Any


@cache
def require_doors() -> Doors:
    """Import the private parts; raises `GraphError` for one that is not where it was."""
    if keras.backend.backend() != "tensorflow":
        raise GraphError(
            f"Keras runs on {keras.backend.backend()}: a model is read on TensorFlow alone; set "
            "KERAS_BACKEND=tensorflow"
        )
    try:
        return Doors(
            layer=_import("keras.src.layers.layer", "Layer"),
            operation=_import("keras.src.ops.operation", "Operation"),
            node=_import("keras.src.ops.node", "Node"),
            function=_import("keras.src.ops.function", "Function"),
            nn=importlib.import_module("keras.src.backend.tensorflow.nn"),
            numpy=importlib.import_module("keras.src.backend.tensorflow.numpy"),
            activations=importlib.import_module("keras.src.activations.activations"),
            tf=importlib.import_module("tensorflow"),
            op_callbacks=importlib.import_module("tensorflow.python.framework.op_callbacks"),
            execute=importlib.import_module("tensorflow.python.eager.execute"),
            pywrap_tfe=importlib.import_module("tensorflow.python.pywrap_tfe"),
            tf_function=type(importlib.import_module("tensorflow").function(lambda: None)),
        )
    except (ImportError, AttributeError) as error:
        raise GraphError(
            f"this version of Keras or TensorFlow cannot be read: {error}; "
            f"keras {keras.__version__}"
        ) from error


def _import(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


BACKEND_FUNCTIONS = _words("""
    conv depthwise_conv conv_transpose max_pool average_pool adaptive_average_pool
    adaptive_max_pool silu gelu hard_silu hard_sigmoid leaky_relu elu celu glu log_sigmoid
    softmax log_softmax hard_tanh batch_normalization dot_product_attention
""")
"""Functions of Keras's TensorFlow backend that are one operation."""

NUMPY_FUNCTIONS = _words("matmul einsum tensordot var clip roll take argmax")
TENSORFLOW_FUNCTIONS = _words("""
    gelu silu swish softmax log_softmax batch_normalization l2_normalize leaky_relu
    depthwise_conv2d
""")
"""Functions of `tf.nn` that are one operation."""

CELL_CLASSES = ("LSTMCell", "GRUCell", "SimpleRNNCell")
"""Layers that are one step of a recurrent layer."""

SCOPE_CLASSES = (
    "BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
    "UnitNormalization", "LSTM", "GRU", "SimpleRNN", "UpSampling1D", "UpSampling2D",
    "UpSampling3D", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "PReLU",
    *CELL_CLASSES,
)  # fmt: skip
"""Layers that are one operation, unless a subclass computes something else."""


def find_functions() -> Iterator[tuple[Any, str]]:
    """Yield the owner and the name of each function that is one operation."""
    doors = require_doors()
    for owner, names in (
        (doors.nn, BACKEND_FUNCTIONS),
        (doors.numpy, NUMPY_FUNCTIONS),
        (doors.tf.nn, TENSORFLOW_FUNCTIONS),
        (doors.tf, ("tensordot",)),
    ):
        yield from ((owner, name) for name in names if hasattr(owner, name))
    for name in ("ReLU", "Mish"):
        yield getattr(doors.activations, name), "static_call"


_CLASSES: dict[type, str] = {}


def _scope_class(layer: Any) -> str:
    """Return the name of the class of `SCOPE_CLASSES` whose `call` this layer has."""
    known = _CLASSES.get(type(layer))
    if known is None:
        known = _CLASSES[type(layer)] = _find_scope_class(type(layer))
    return known


def _find_scope_class(cls: type) -> str:
    for name in (*SCOPE_CLASSES, "Bidirectional", "TimeDistributed"):
        known = getattr(keras.layers, name)
        if issubclass(cls, known) and inspect.getattr_static(cls, "call") is inspect.getattr_static(
            known, "call"
        ):
            return name
    return ""


def name_scope(layer: Any, kwargs: Mapping[str, Any]) -> str:
    """Return the name of the one operation that a layer is; empty if it has visible parts."""
    name = _scope_class(layer)
    if not name and isinstance(layer, keras.layers.RNN):
        return "RNN"
    if name == "TimeDistributed":
        inner = layer.layer
        is_dense = type(inner) is keras.layers.Dense and kwargs.get("mask") is None
        return name if is_dense and inner.activation is keras.activations.linear else ""
    if name == "Bidirectional":
        parts = {_scope_class(part) for part in (layer.forward_layer, layer.backward_layer)}
        is_one = len(parts) == 1 and parts <= {"LSTM", "GRU", "SimpleRNN"}
        return name if is_one and layer.merge_mode == "concat" else ""
    if name.startswith("Global") and kwargs.get("mask") is not None:
        return ""
    return name
