"""A part of a Keras model as source: its layers with their settings, and single operations."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.processes.graph_requests import PieceCode
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import doors, variables
from parity.runtimes.keras.graphs import bind_inputs, describe_inputs, order_inputs
from parity.runtimes.keras.recorder import Recorder
from parity.runtimes.pieces import (
    PieceOperations,
    Step,
    UnwritableError,
    count_layers,
    format_steps,
    name_variable,
    render_value,
)

Array = NDArray[Any]

_TRAINING_ENDS = ("_initializer", "_regularizer", "_constraint", "initializers", "regularizers")
"""The ends of the names of settings that have no effect once a layer has its weights."""


class KerasPieces(PieceOperations):
    """`PieceOperations` for the one model of a child."""

    model: Any
    example: Mapping[str, Array] | None

    def trace_steps(self, inputs: Mapping[str, Array]) -> tuple[Sequence[Step], Collection[str]]:
        with keras_device.device_scope("cpu"):
            ordered = order_inputs(inputs, describe_inputs(self.model, self.example))
            recorder = _StepRecorder(self.model)
            args, kwargs, described = bind_inputs(self.model, recorder, ordered)
            recorder.run(self.model, args, kwargs)
        return recorder.steps, [identifier for _, identifier, _ in described]

    def to_array(self, value: Any) -> Array:
        return np.asarray(variables.raw_variable(value))

    def wrap_piece(self, steps: Sequence[Step], reads: Sequence[str], output: str) -> PieceCode:
        body = format_steps(steps, "")
        lines = [
            *(["import functools", ""] if any("functools." in line for line in body) else []),
            "import keras",
            "import tensorflow as tf",
            "",
            "keras.config.set_dtype_policy(dtype)",
            "w = {n: cast(v, dtype) for n, v in weights.items()}",
            *(
                f"{name_variable(each)} = tf.constant(cast(inputs[{each!r}], dtype))"
                for each in reads
            ),
            *body,
            f"result = np.asarray({name_variable(output)})",
        ]
        labels = tuple(step.label for step in steps)
        modules = ("keras", "tensorflow")
        return PieceCode(tuple(lines), tuple(reads), labels, modules, count_layers(steps))


@dataclass(frozen=True)
class _Activation:
    """The tensors that a layer's activation read and gave.

    `place` is the number of steps before it, where its own operations are steps.
    """

    before: str
    after: str
    place: int | None

    def is_split(self, outputs: Sequence[str]) -> bool:
        """Return whether the layer's output is the activation's, and both its ends are data."""
        return bool(self.before) and [self.after] == list(outputs) and self.before != self.after


class _StepRecorder(Recorder):
    """Keeps each call of a layer of Keras's own, and each operation outside of such layers."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.steps: list[Step] = []
        self._model = model
        self._inside = 0
        """How many layers of Keras's own are running, one within the other."""
        self._names = {id(variable): name for name, variable in self.variables.items()}

    def find_tensor(self, tensor: Any) -> str:
        """Return the id of a tensor of data; empty for a weight and a constant."""
        mark = self._find_mark(tensor)
        return mark if isinstance(mark, str) and mark[:1].isdigit() else ""

    def is_tensor(self, value: Any) -> bool:
        """Return whether a value is a tensor or a variable."""
        return isinstance(value, self._values)

    def name_weight(self, tensor: Any) -> str:
        """Return the name of a variable, empty for another tensor."""
        return self._names.get(id(tensor), "")

    # Layers --------------------------------------------------------------------------------------

    def _wrap_layer(self, original: Callable[..., Any]) -> Callable[..., Any]:
        run = super()._wrap_layer(original)

        @wraps(original)
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            nested = bool(self._stack and self._stack[-1] is layer)
            if nested or self._inside or not _is_own(layer):
                return run(layer, *args, **kwargs)
            self._inside += 1
            parts: list[_Activation] = []
            path = "/".join([each.name for each in self._stack[1:]] + [layer.name])
            try:
                with self._split_activation(layer, parts):
                    result = run(layer, *args, **kwargs)
            finally:
                self._inside -= 1
            self._add_layer(layer, path, args, kwargs, result, parts)
            return result

        return call

    @contextmanager
    def _split_activation(self, layer: Any, parts: list[_Activation]) -> Iterator[None]:
        """While open, note the tensors that a layer's own activation reads and gives."""
        activation = getattr(layer, "activation", None)
        is_one = doors.name_scope(layer, {}) != "" or not isinstance(layer, keras.Layer)
        config = {} if is_one else layer.get_config()
        name = config.get("activation")
        if is_one or not callable(activation) or name in (None, "linear"):
            yield
            return
        if isinstance(layer, keras.layers.Activation) and isinstance(name, str):
            yield
            return
        # A function of the user's has no name that source could state: its operations are steps.
        is_own = not isinstance(name, str)

        def activate(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            before, place, inside = self.find_tensor(tensor), len(self.steps), self._inside
            self._inside = 0 if is_own else inside
            try:
                output = activation(tensor, *args, **kwargs)
            finally:
                self._inside = inside
            parts.append(_Activation(before, self.find_tensor(output), place if is_own else None))
            return output

        layer.activation = activate
        try:
            yield
        finally:
            layer.activation = activation

    def _add_layer(
        self, layer: Any, path: str, args: Any, kwargs: Any, result: Any,
        parts: Sequence[_Activation],
    ) -> None:  # fmt: skip
        writer = _Writer(self, len(self.steps))
        part = parts[0] if len(parts) == 1 else None
        # The layer comes before the operations of its activation.
        place = len(self.steps) if part is None or part.place is None else part.place
        label = f"{type(layer).__name__} `{path}`"
        outputs = [self.find_tensor(each) for each in _flatten(result, self.is_tensor)]
        outputs = [each for each in outputs if each]
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        try:
            change: dict[str, Any] = {}
            if part is not None and part.is_split(outputs):
                change, outputs = {"activation": "linear"}, [part.before]
            given = [writer.render(each) for each in args]
            given += [f"{name}={writer.render(value)}" for name, value in kwargs.items()]
            lines = writer.construct(layer, change)
            lines += writer.assign(f"layer({', '.join(given)})", result, outputs)
            lines = writer.set_weights(layer, lines)
        except UnwritableError as error:
            inputs = tuple(
                filter(None, map(self.find_tensor, _flatten((args, kwargs), self.is_tensor)))
            )
            step = Step(inputs, tuple(outputs), label=label, reason=str(error))
            self.steps.insert(place, step)
            return
        step = Step(writer.inputs, tuple(outputs), tuple(lines), writer.values, label)
        self.steps.insert(place, step)
        if change and part is not None and part.place is None:
            name, before, after = layer.get_config()["activation"], part.before, part.after
            line = (
                f"{name_variable(after)} = keras.activations.get({name!r})({name_variable(before)})"
            )
            self.steps.append(Step((before,), (after,), (line,), {}, f"{name} of `{path}`"))

    # Functions and operations --------------------------------------------------------------------

    def _run_scope(
        self, name: str, function: Callable[..., Any], args: Any, kwargs: Any,
        arguments: Mapping[str, Any],
    ) -> Any:  # fmt: skip
        if self._inside:
            return super()._run_scope(name, function, args, kwargs, arguments)
        result = super()._run_scope(name, function, args, kwargs, arguments)
        outputs = [self.find_tensor(each) for each in _flatten(result, self.is_tensor)]
        outputs = [each for each in outputs if each]
        writer = _Writer(self, len(self.steps))
        label = f"{name} in `{self.find_path()}`"
        try:
            public = _find_function(name, function)
            given = [writer.render(each) for each in args]
            given += [f"{key}={writer.render(value)}" for key, value in kwargs.items()]
            lines = writer.assign(f"{public}({', '.join(given)})", result, outputs)
        except UnwritableError as error:
            inputs = tuple(
                filter(None, map(self.find_tensor, _flatten((args, kwargs), self.is_tensor)))
            )
            self.steps.append(Step(inputs, tuple(outputs), label=label, reason=str(error)))
            return result
        self.steps.append(Step(writer.inputs, tuple(outputs), tuple(lines), writer.values, label))
        return result

    def _note_operation(
        self, op_type: Any, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None,
        graph: Any = None,
    ) -> None:  # fmt: skip
        before = self._number
        operands = list(inputs)
        super()._note_operation(op_type, inputs, attrs, outputs, op_name, graph)
        if self._number == before or self._inside or self._scope is not None:
            return
        name = op_type.decode() if isinstance(op_type, bytes) else op_type
        made = [self.find_tensor(each) for each in outputs]
        writer = _Writer(self, len(self.steps))
        label = f"{name} in `{self.find_path()}`"
        try:
            expression = writer.write_operation(name, operands, attrs, self._tf)
        except UnwritableError as error:
            read = tuple(filter(None, map(self.find_tensor, operands)))
            self.steps.append(Step(read, tuple(made), label=label, reason=str(error)))
            return
        result: Any = outputs[0] if len(outputs) == 1 else list(outputs)
        lines = writer.assign(expression, result, made)
        self.steps.append(Step(writer.inputs, tuple(made), tuple(lines), writer.values, label))


class _Writer:
    """Writes one call; `inputs` are the tensors that it reads, `values` its weights."""

    def __init__(self, recorder: _StepRecorder, number: int) -> None:
        self._recorder, self._number = recorder, number
        self._inputs: dict[str, None] = {}
        self.values: dict[str, Any] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self._inputs)

    def render(self, value: Any) -> str:
        """Return a value as source; raises `UnwritableError`."""
        return render_value(value, self._render_own)

    def _render_own(self, value: Any) -> str | None:
        recorder = self._recorder
        if recorder.is_tensor(value):
            found = recorder.find_tensor(value)
            if found:
                self._inputs[found] = None
                return name_variable(found)
            dtype = variables.dtype_of(value) if not hasattr(value, "numpy") else value.dtype
            if getattr(dtype, "name", dtype) in ("resource", "variant", "string"):
                raise UnwritableError(f"a tensor of {dtype} cannot be stated in source")
            name = recorder.name_weight(value) or f"constant {self._number}.{len(self.values)}"
            self.values[name] = value
            return f"tf.constant(w[{name!r}])"
        if isinstance(value, np.ndarray):
            name = f"constant {self._number}.{len(self.values)}"
            self.values[name] = value
            return f"tf.constant(w[{name!r}])"
        if type(value).__name__ == "DType":
            return f'tf.as_dtype("{value.name}")'
        return None

    def construct(self, layer: Any, change: Mapping[str, Any]) -> list[str]:
        """Return the lines that make a layer, or an operation, of the same settings."""
        name = type(layer).__name__
        if isinstance(layer, keras.Layer):
            text = self.render({**_drop_training(layer.get_config()), **change})
            return [f"layer = keras.layers.{name}.from_config({text})"]
        function = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        if not hasattr(keras.ops, function):
            raise UnwritableError(f"keras.ops has no {function}")
        taken = inspect.signature(type(layer).__init__).parameters
        stated = {
            key: getattr(layer, key) for key in taken
            if key not in ("self", "name", "dtype") and hasattr(layer, key)
        }  # fmt: skip
        text = self.render(stated)
        return [f"layer = functools.partial(keras.ops.{function}, **{text})"]

    def set_weights(self, layer: Any, lines: Sequence[str]) -> list[str]:
        """Return the lines with the layer's weights set, once its first call has built it."""
        weights = list(getattr(layer, "weights", ()))
        if not weights:
            return list(lines)
        names = [self._recorder.name_weight(each) for each in weights]
        if not all(names):
            raise UnwritableError("it has a weight that the model does not list")
        self.values.update(zip(names, weights, strict=True))
        made, *calls = lines
        text = ", ".join(f"w[{name!r}]" for name in names)
        # The first call builds the layer.
        build = calls[0].partition(" = ")[2]
        return [made, f"{build}", f"layer.set_weights([{text}])", *calls]

    def assign(self, expression: str, result: Any, outputs: Sequence[str]) -> list[str]:
        """Return the lines that assign the tensors of a nested result to their variables."""
        if self._recorder.is_tensor(result):
            return [f"{name_variable(outputs[0])} = {expression}"] if outputs else [expression]
        lines = [f"made = {expression}"]
        for place, tensor in _find_places(result, "made", self._recorder.is_tensor):
            found = self._recorder.find_tensor(tensor)
            if found:
                lines.append(f"{name_variable(found)} = {place}")
        return lines

    def write_operation(self, name: str, operands: Sequence[Any], attrs: Any, tf: Any) -> str:
        """Return the call of an operation of TensorFlow."""
        function = getattr(tf.raw_ops, name, None)
        if function is None:
            raise UnwritableError(f"tf.raw_ops has no {name}")
        definitions = importlib.import_module("tensorflow.python.framework.op_def_registry")
        definition = definitions.get(name)
        taken = inspect.signature(function).parameters
        settings = dict(zip(attrs[::2], attrs[1::2], strict=True)) if attrs else {}
        given, place = [], 0
        for argument in definition.input_arg:
            if argument.number_attr or argument.type_list_attr:
                count = settings.get(argument.number_attr, len(operands) - place)
                given.append((argument.name, operands[place : place + count]))
                place += count
            else:
                given.append((argument.name, operands[place]))
                place += 1
        given += [
            (key.decode() if isinstance(key, bytes) else key, value)
            for key, value in settings.items()
        ]
        parts = [
            f"{key}={self.render(value.decode() if isinstance(value, bytes) else value)}"
            for key, value in given
            if key in taken
        ]
        return f"tf.raw_ops.{name}({', '.join(parts)})"


def _drop_training(config: Any) -> Any:
    """Return a configuration without what has no effect on inference; the policy is the file's."""
    if not isinstance(config, Mapping):
        return config
    return {
        key: _drop_training(value)
        for key, value in config.items()
        if not key.endswith(_TRAINING_ENDS) and key not in ("dtype", "trainable")
    }


def _is_own(layer: Any) -> bool:
    """Return whether a layer is one of Keras's own that is no container, or one of its operations.

    What a container or a layer of the user's consists of is written instead.
    """
    if not type(layer).__module__.startswith("keras."):
        return False
    if not isinstance(layer, keras.Layer):
        return True
    if isinstance(layer, keras.Model | keras.layers.InputLayer):
        return False
    if getattr(keras.layers, type(layer).__name__, None) is not type(layer):
        return False
    inner = list(layer._flatten_layers(include_self=False))
    return all(type(each).__module__.startswith("keras.") for each in inner)


def _find_function(name: str, function: Callable[..., Any]) -> str:
    module = getattr(function, "__module__", "")
    if module.startswith("keras.") and hasattr(keras.ops, name):
        return f"keras.ops.{name}"
    if module.startswith("tensorflow."):
        tf = importlib.import_module("tensorflow")
        for owner in ("nn", "math", "linalg"):
            if hasattr(getattr(tf, owner), name):
                return f"tf.{owner}.{name}"
        if hasattr(tf, name):
            return f"tf.{name}"
    raise UnwritableError(f"{name} has no public name in Keras or TensorFlow")


def _flatten(value: Any, is_tensor: Callable[[Any], bool]) -> list[Any]:
    return [tensor for _, tensor in _find_places(value, "", is_tensor)]


def _find_places(value: Any, place: str, is_tensor: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    """Return the tensors of a nested value with the expression that finds each in it."""
    if is_tensor(value):
        return [(place, value)]
    members: list[tuple[str, Any]] = []
    if isinstance(value, tuple | list):
        members = [(f"{place}[{at}]", each) for at, each in enumerate(value)]
    elif isinstance(value, Mapping):
        members = [(f"{place}[{key!r}]", each) for key, each in value.items()]
    return [found for where, each in members for found in _find_places(each, where, is_tensor)]
