"""The TensorFlow graph that a model is called in: constants for what was computed before.

A model may hold tensors, variables and tables that were made while it was built, outside of the
graph. A plain graph cannot take them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import keras
import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from exporters.errors import ExportError
from exporters.keras.calls import to_array

_VARIABLE = resource_variable_ops.BaseResourceVariable

_RESOURCES = (tf.resource, tf.variant)


@dataclass
class Tracing:
    """What is known of the graph's operations: the layer that made each, and the resources read."""

    layers: dict[str, str] = field(default_factory=dict)
    """Path of the innermost layer by name of the operation."""
    resources: dict[str, Any] = field(default_factory=dict)
    """Resource handle by the name of the placeholder that stands for it."""
    stack: list[str] = field(default_factory=list)
    variables: dict[int, str] = field(default_factory=dict)
    """Name of the constant that holds a variable's value, by the variable's id."""
    failed_in: str | None = None
    """Path of the innermost layer whose call raised."""

    @property
    def layer(self) -> str:
        """The path of the layer that is being called."""
        return next((path for path in reversed(self.stack) if path), "")


class TracingGraph(tf.__internal__.FuncGraph):  # type: ignore[misc]
    """A function's graph that turns every eager tensor into a constant."""

    def __init__(self, name: str, tracing: Tracing) -> None:
        super().__init__(name)
        self.tracing = tracing
        self._constants: dict[int, tuple[Any, Any]] = {}

    def capture(self, tensor: Any, name: str | None = None, shape: Any = None) -> Any:
        """Return a tensor of this graph for one of outside."""
        if not isinstance(tensor, tf.__internal__.EagerTensor):
            return super().capture(tensor, name)
        if id(tensor) not in self._constants:
            # The tensor is kept too, so that its id is not another's.
            self._constants[id(tensor)] = (tensor, self._add_constant(tensor))
        return self._constants[id(tensor)][1]

    def _add_constant(self, tensor: Any) -> Any:
        with self.as_default(), tf.control_dependencies(None), tf.name_scope(""):
            if tensor.dtype in _RESOURCES:
                placeholder = tf.compat.v1.placeholder(tensor.dtype, [], name="resource")
                self.tracing.resources[placeholder.op.name] = tensor
                return placeholder
            name = _operation_name(f"{self.tracing.layer}/constant")
            return tf.constant(tensor.numpy(), tensor.dtype, tensor.shape, name=name)

    def _create_op_internal(self, *args: Any, **kwargs: Any) -> Any:
        operation = super()._create_op_internal(*args, **kwargs)
        self.tracing.layers.setdefault(operation.name, self.tracing.layer)
        return operation


def _operation_name(path: str) -> str:
    """Return a path as TensorFlow takes it for a name: letters, digits and a few signs."""
    return re.sub(r"[^A-Za-z0-9_.\-/]", "_", path.lstrip("/_"))


@contextmanager
def allow_any_names() -> Iterator[None]:
    """While open, scopes take the name of any model or layer, as they do in eager execution.

    A graph's scopes, those of the bodies of loops among them, take letters, digits and a few signs.
    """
    enter = tf.Graph.name_scope

    def name_scope(self: Any, name: str | None) -> Any:
        if name:
            name = re.sub(r"[^A-Za-z0-9_.\\/>\-]", "_", name)
            if not self.get_name_scope() and not re.match(r"[A-Za-z0-9.]", name):
                name = f"scope{name}"
        return enter(self, name)

    with mock.patch.object(tf.Graph, "name_scope", name_scope):
        yield


class RecordingScope(keras.StatelessScope):  # type: ignore[misc]
    """Gives Keras's variables values for the time of a call, and records those that it writes."""

    def __init__(self, mapping: Sequence[tuple[Any, Any]]) -> None:
        super().__init__(mapping)
        self.written: list[Any] = []

    def add_update(self, update: tuple[Any, Any]) -> None:
        """Record that the call writes to a variable."""
        self.written.append(update[0])
        super().add_update(update)


@contextmanager
def record_layers(tracing: Tracing) -> Iterator[None]:
    """While open, keep the path of the layer or operation that is being called."""
    call = keras.Operation.__call__

    def recording(self: Any, *args: Any, **kwargs: Any) -> Any:
        path = getattr(self, "path", "") or ""
        tracing.stack.append(path)
        try:
            return call(self, *args, **kwargs)
        except Exception:
            tracing.failed_in = tracing.failed_in or tracing.layer
            raise
        finally:
            tracing.stack.pop()

    with mock.patch.object(keras.Operation, "__call__", recording):
        yield


@contextmanager
def read_variables(graph: TracingGraph) -> Iterator[None]:
    """While open, a variable that Keras does not know is read as a constant; writing it raises.

    Keras gives its own variables a value for the time of a call.
    """
    values: dict[int, Any] = {}
    read = _VARIABLE._read_variable_op

    def read_value(self: Any, no_copy: bool = False) -> Any:
        if tf.executing_eagerly() or not isinstance(self.handle, tf.__internal__.EagerTensor):
            return read(self, no_copy)
        if id(self) not in values:
            with tf.init_scope():
                array = to_array(read(self))
            with graph.as_default(), tf.control_dependencies(None), tf.name_scope(""):
                name = _operation_name(f"{graph.tracing.layer}/{self.name.split(':')[0]}")
                values[id(self)] = tf.constant(array, name=name)
                graph.tracing.variables[id(self)] = values[id(self)].op.name
        return values[id(self)]

    def gather(self: Any, indices: Any, name: str | None = None) -> Any:
        return tf.gather(read_value(self), indices, name=name)

    def gather_nd(self: Any, indices: Any, name: str | None = None) -> Any:
        return tf.gather_nd(read_value(self), indices, name=name)

    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        raise ExportError(
            f"the model writes to the variable {self.name} when it is called: a file has no state;"
            " make the state an input and an output"
        )

    changes: dict[str, Any] = {
        "_read_variable_op": read_value,
        "sparse_read": gather,
        "gather_nd": gather_nd,
        "assign": refuse,
        "assign_add": refuse,
        "assign_sub": refuse,
    }
    with mock.patch.multiple(_VARIABLE, **changes):
        yield
