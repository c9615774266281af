"""One eager run of a Keras model, seen operation by operation: ids, operands, paths, lines.

A tensor's id is `N.M`: output M of the recorded operation number N; the model's inputs are `0.M`.
Only operations on data are numbered: what depends on weights and constants alone is followed, so
that a weight that is reshaped or computed keeps its name, and gets no number. What a function or a
layer with a kind of its own makes of several operations is one operation here. So the ids are the
same in every precision and on every device.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.errors import PrecisionError
from parity.network.graph import PARAMETER
from parity.runtimes.keras import float64
from parity.runtimes.keras.doors import (
    CELL_CLASSES,
    Doors,
    find_functions,
    name_scope,
    require_doors,
)
from parity.runtimes.keras.events import Event, Operand, Output, WeightSource, name_operand
from parity.runtimes.keras.source_lines import find_source
from parity.runtimes.keras.tensors import (
    describe_values,
    iterate_tensors,
    map_tensors,
    mark_of,
    mark_tensor,
)
from parity.runtimes.keras.variables import dtype_of, handle_of, name_variables
from parity.runtimes.keras.wide_operands import WideOperands

Array = NDArray[Any]
LARGEST_CONSTANT = 64
"""Constants of at most this many values are kept in the record."""


@dataclass
class _Scope:
    """A function or a layer that is recorded as one operation, while it runs."""

    operands: dict[str | WeightSource, Operand] = field(default_factory=dict)


Hook = Callable[[str, Any], Any]
"""Is given each tensor with its id as soon as it is computed; may return what replaces it."""

_INNER = "inner"
"""The mark of data that was made inside a scope."""


class Recorder:
    """Numbers the operations of one run; records them, or gives their tensors to a hook."""

    def __init__(
        self,
        model: Any,
        *,
        observe: bool = False,
        hook: Hook | None = None,
        widen: bool = False,
        reads_functions: bool = True,
        runs_copy: bool = False,
        gives_operands: bool = False,
    ) -> None:
        """With `widen`, casts to float32 keep float64, and float32 operands become float64.

        With `reads_functions` a `tf.function` runs as the Python function that it is, and its
        operations are seen; without, it is one operation. `runs_copy` is whether the model has the
        weights of a replica, which a function that was compiled before does not read. With
        `gives_operands` the hook gets the operands that are no data, too (`name_operand`).
        """
        self.events: list[Event] = []
        self.variables = name_variables(model)
        self._handles = {id(handle_of(v)): name for name, v in self.variables.items()}
        self._names = {id(variable): name for name, variable in self.variables.items()}
        self._observe = observe
        self._hook = hook
        self._widen = widen
        self._reads_functions = reads_functions
        self._runs_copy = runs_copy
        self._gives_operands = gives_operands
        self.has_functions = False
        """Whether the run has come across a `tf.function` of the model's."""
        self._number = 0
        self._stack: list[Any] = []
        self._scope: _Scope | None = None
        self._replaced: dict[int, tuple[Any, Any]] = {}
        self._busy = False
        self._variable_classes: dict[type, bool] = {}
        self._tf = importlib.import_module("tensorflow")
        self._eager = importlib.import_module("tensorflow.python.framework.ops").EagerTensor
        self._values = (self._eager, keras.Variable, self._tf.Variable)

    # The doors -----------------------------------------------------------------------------------

    def run(self, model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run the model in inference mode, and return its output."""
        with self._open():
            return model(*args, **kwargs, training=False)

    @contextmanager
    def _open(self) -> Iterator[None]:
        doors = require_doors()
        with ExitStack() as stack:
            for owner, name, wrap in self._patches(doors):
                original = inspect.getattr_static(owner, name)
                stack.callback(setattr, owner, name, original)
                setattr(owner, name, wrap(getattr(owner, name)))
            doors.op_callbacks.add_op_callback(self._note_operation)
            stack.callback(doors.op_callbacks.remove_op_callback, self._note_operation)
            before = doors.execute.execute
            stack.callback(setattr, doors.execute, "execute", before)
            doors.execute.execute = self._wrap_execute(before)
            fast = doors.pywrap_tfe.TFE_Py_FastPathExecute
            stack.callback(setattr, doors.pywrap_tfe, "TFE_Py_FastPathExecute", fast)
            doors.pywrap_tfe.TFE_Py_FastPathExecute = self._wrap_fast_path(fast)
            yield

    def _patches(self, doors: Doors) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        yield doors.layer, "__call__", self._wrap_layer
        yield doors.operation, "__call__", self._wrap_layer
        yield doors.tf_function, "__call__", self._wrap_tf_function
        for owner, name in find_functions():
            if owner is doors.nn and name == "conv":
                yield owner, name, self._wrap_convolution
            elif inspect.isclass(owner):
                yield owner, name, lambda function: staticmethod(self._wrap_function(function))
            else:
                yield owner, name, self._wrap_function

    def _wrap_layer(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if self._stack and self._stack[-1] is layer:
                # Layer.__call__ ends in Operation.__call__.
                return original(layer, *args, **kwargs)
            self._stack.append(layer)
            try:
                if self._scope is None and isinstance(layer, _WEIGHTED):
                    args = self._read_weights_as_data(layer, args)
                name = "" if self._scope is not None else name_scope(layer, kwargs)
                if name:
                    arguments = {}
                    if name in CELL_CLASSES:
                        arguments = self._read_cell_arguments(args, kwargs)
                    return self._run_scope(name, original, (layer, *args), kwargs, arguments)
                return original(layer, *args, **kwargs)
            finally:
                self._stack.pop()

        return call

    def _read_cell_arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the data of a cell's call, `inputs` and `states`, and `zeros`: whether all the
        states are constants of zeros."""
        inputs = args[0] if args else kwargs.get("inputs", kwargs.get("sequence"))
        states = args[1] if len(args) > 1 else kwargs.get("states")
        tensors = list(iterate_tensors(states, self._values))
        self._busy = True
        try:
            zeros = all(self._find_mark(t) is None and not np.any(np.asarray(t)) for t in tensors)
        finally:
            self._busy = False
        return {"inputs": inputs, "states": tensors, "zeros": zeros}

    def _wrap_function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)
        name = original.__name__
        if name == "static_call":
            name = original.__qualname__.partition(".")[0].lower()

        @wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if self._scope is not None:
                return original(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return self._run_scope(name, original, args, kwargs, bound.arguments)

        return function

    def _wrap_tf_function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def call(function: Any, *args: Any, **kwargs: Any) -> Any:
            if self._scope is not None:
                return original(function, *args, **kwargs)
            self.has_functions = True
            if self._reads_functions:
                # Also where Keras traces a model to build its layers.
                return function.python_function(*args, **kwargs)
            if self._tf.inside_function():
                return original(function, *args, **kwargs)
            if self._runs_copy:
                run = function.python_function
                return self._run_scope("tf.function", run, args, kwargs, {})
            return self._run_scope("tf.function", original, (function, *args), kwargs, {})

        return call

    def _wrap_convolution(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Keras compiles grouped convolutions with XLA anew at each call, whose float64 loops are
        slow; TensorFlow's kernel sums the same products."""
        function = self._wrap_function(original)
        if not self._widen:
            return function

        @wraps(original)
        def convolve(
            inputs: Any, kernel: Any, strides: Any = 1, padding: str = "valid",
            data_format: Any = None, dilation_rate: Any = 1,
        ) -> Any:  # fmt: skip
            if keras.config.image_data_format() != "channels_last" or data_format not in (
                None,
                "channels_last",
            ):
                return original(inputs, kernel, strides, padding, data_format, dilation_rate)
            return self._tf.nn.convolution(
                inputs, kernel, strides, padding.upper(), dilations=dilation_rate
            )

        return self._wrap_function(convolve)

    def _wrap_execute(self, original: Callable[..., Any]) -> Callable[..., Any]:
        wide = WideOperands(self._tf, self._eager, self._find_mark)

        def execute(
            op_name: Any, num_outputs: Any, inputs: Any, attrs: Any, ctx: Any, name: Any = None
        ) -> Any:
            if self._widen and not self._busy:
                inputs = wide.widen_operands(inputs)
            return self._substitute(original(op_name, num_outputs, inputs, attrs, ctx, name))

        return execute

    def _wrap_fast_path(self, original: Callable[..., Any]) -> Callable[..., Any]:
        wide = WideOperands(self._tf, self._eager, self._find_mark)

        def execute(*args: Any) -> Any:
            if self._busy:
                return original(*args)
            if any(self._is_variable(value) for value in args[3:]):
                # TensorFlow reads variables in C++, where no callback sees it.
                args = tuple(
                    self._tf.convert_to_tensor(value) if self._is_variable(value) else value
                    for value in args
                )
            if self._widen:
                if args[1] == "Cast":
                    if wide.is_narrowing(args[3], args):
                        return args[3]
                    args = wide.widen_cast(args)
                if args[1] == "OneHot" and wide.is_data(args[3]):
                    args = (*args[:5], *map(wide.widen_tensor, args[5:7]), *args[7:])
                if args[1] in _NARROW_KERNELS and wide.is_wide(args[3]):
                    return self._compute_wide(args)
                if args[1] == "Bitcast" and wide.is_wide(args[3]):
                    args = (*args[:3], self._narrow(args[3]), *args[4:])
                args = (*args[:3], *wide.widen_operands(args[3:]))
            return self._substitute(original(*args))

        return execute

    def _is_variable(self, value: Any) -> bool:
        # TensorFlow's own check of an instance is slow, and every operand is asked.
        cls = type(value)
        if cls not in self._variable_classes:
            self._variable_classes[cls] = issubclass(cls, self._tf.Variable)
        return self._variable_classes[cls]

    # Float64 -------------------------------------------------------------------------------------

    def _narrow(self, tensor: Any) -> Any:
        """Return a tensor in float32, of which a model reads the bits."""
        narrow = self._tf.constant(np.asarray(tensor), self._tf.float32)
        mark_tensor(narrow, self, mark_of(tensor, self))
        return narrow

    def _compute_wide(self, args: Sequence[Any]) -> Any:
        """Compute an operation in float64 whose kernel in TensorFlow knows float32 alone."""
        self._busy = True
        try:
            count = _NARROW_KERNELS[args[1]]
            inputs = tuple(map(self._tf.convert_to_tensor, args[3 : 3 + count]))
            rest = args[3 + count :]
            settings = dict(zip(rest[::2], rest[1::2], strict=True))
            array = float64.compute(args[1], [np.asarray(tensor) for tensor in inputs], settings)
            if array is None:
                raise PrecisionError(f"TensorFlow's {args[1]} cannot be computed in float64")
            wide = self._tf.constant(array, self._tf.float64)
        finally:
            self._busy = False
        # The first is the tensor itself, with its mark.
        attributes = tuple(item for pair in settings.items() for item in pair)
        self._note_operation(args[1], (args[3], *inputs[1:]), attributes, [wide])
        return self._substitute(wide)

    # Operations ----------------------------------------------------------------------------------

    def _note_operation(
        self, op_type: Any, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None,
        graph: Any = None,
    ) -> None:  # fmt: skip
        """Record an operation that ran; TensorFlow calls this."""
        if self._busy or graph is not None:
            return
        name = op_type.decode() if isinstance(op_type, bytes) else op_type
        if name == "ReadVariableOp":
            variable = self._handles.get(id(inputs[0]))
            if variable is not None:
                rank = len(outputs[0].shape)
                source = WeightSource((variable,), tuple(range(rank)), True)
                mark_tensor(outputs[0], self, source)
            return
        marks = [self._find_mark(tensor) for tensor in inputs]
        if name in _ALIASES or (name == "Cast" and _keeps_type(inputs[0], outputs[0])):
            if marks[0] is not None:
                mark_tensor(outputs[0], self, marks[0])
            return
        if name in _SHAPES or not any(isinstance(mark, str) for mark in marks):
            self._follow_weights(name, inputs, marks, outputs)
            return
        if self._scope is None:
            marks = [self._find_escaped(t, m) for t, m in zip(inputs, marks, strict=True)]
        else:
            for tensor, mark in zip(inputs, marks, strict=True):
                self._add_operand(self._scope, tensor, mark)
            for tensor in outputs:
                mark_tensor(tensor, self, _INNER)
            return
        operands: tuple[Operand, ...] = ()
        if self._observe:
            operands = tuple(map(self._describe, inputs, marks))
        if self._gives_operands:
            self._give_operands(inputs, marks)
        arguments = dict(zip(attrs[::2], attrs[1::2], strict=True)) if attrs else {}
        self._record(_plain_name(name), operands, arguments, outputs)

    def _find_mark(self, tensor: Any) -> Any:
        if not isinstance(tensor, self._eager):
            variable = self._names.get(id(tensor))
        else:
            mark = mark_of(tensor, self)
            if mark is not None or tensor.dtype != self._tf.resource:
                return mark
            variable = self._handles.get(id(tensor))
        if variable is None:
            return None
        return WeightSource((variable,), tuple(range(len(self.variables[variable].shape))), True)

    def _follow_weights(
        self, name: str, inputs: Sequence[Any], marks: Sequence[Any], outputs: Sequence[Any]
    ) -> None:
        """Note of which weights a tensor is made that depends on no data."""
        sources = [mark for mark in marks if isinstance(mark, WeightSource)]
        if not sources or name in _SHAPES:
            return
        names = tuple(dict.fromkeys(each for source in sources for each in source.names))
        order, is_exact = None, False
        first = sources[0]
        if len(names) == 1 and first.is_exact and outputs:
            if name == "Transpose" and first.order is not None:
                perm = [int(axis) for axis in np.asarray(inputs[1])]
                order, is_exact = tuple(first.order[axis] for axis in perm), True
            elif name in _RESHAPES and (first.order is None or _is_sorted(first.order)):
                is_exact = True
                if tuple(outputs[0].shape) == tuple(inputs[0].shape):
                    order = first.order
        for tensor in outputs:
            mark_tensor(tensor, self, WeightSource(names, order, is_exact))

    def _read_weights_as_data(self, layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of a layer; weights in the place of its input are data from here on.

        So the layers of a decoder that reads learned queries are layers, and no computed weight. So
        are those that read a table of constants, such as the positions of a Transformer-XL.
        """
        if not args:
            return args
        first = args[0]
        mark = self._find_mark(first) if isinstance(first, self._values) else None
        is_table = mark is None and isinstance(layer, _PROJECTIONS) and self._is_table(first)
        if not isinstance(mark, WeightSource) and not is_table:
            return args
        if not isinstance(first, self._eager):
            # A weight itself stays one to whatever else reads it.
            first = self._tf.identity(self._tf.convert_to_tensor(first))
        if is_table and self._widen:
            first = self._tf.cast(first, "float64")
        operands = (self._describe(first, mark),) if self._observe else ()
        self._record(PARAMETER, operands, {}, [first])
        return (self._substitute(first), *args[1:])

    def _is_table(self, tensor: Any) -> bool:
        """Return whether a tensor is a constant of floating-point numbers."""
        return isinstance(tensor, (self._eager, np.ndarray)) and "float" in str(tensor.dtype)

    def _describe(self, tensor: Any, mark: Any) -> Operand:
        if isinstance(mark, WeightSource) and not self._is_read(tensor):
            variable = self.variables[mark.names[0]]
            return Operand(tuple(variable.shape), dtype_of(variable), weight=mark)
        shape, dtype = describe_values(tensor)
        if isinstance(mark, str):
            return Operand(shape, dtype, id=mark)
        if mark is not None:
            return Operand(shape, dtype, weight=mark)
        value = None
        is_plain = dtype not in ("resource", "variant", "string")
        if is_plain and np.prod(shape, dtype=int) <= LARGEST_CONSTANT:
            value = np.asarray(tensor)
        return Operand(shape, dtype, value=value)

    def _give_operands(self, inputs: Sequence[Any], marks: Sequence[Any]) -> None:
        """Give the hook the operands of the next operation that are no data."""
        assert self._hook is not None
        self._busy = True
        try:
            for place, (tensor, mark) in enumerate(zip(inputs, marks, strict=True)):
                if not isinstance(mark, str) and self._is_read(tensor):
                    self._hook(name_operand(self._number + 1, place), tensor)
        finally:
            self._busy = False

    def _find_escaped(self, tensor: Any, mark: Any) -> Any:
        """Return the mark of a tensor; one that left a scope otherwise than in its result, such as
        a state that a layer keeps, gets an id."""
        if mark is not _INNER:
            return mark
        self._record("state", (), {}, [tensor])
        return mark_of(tensor, self)

    def _is_read(self, tensor: Any) -> bool:
        """Return whether a tensor has values, and is no variable or its handle."""
        return isinstance(tensor, self._eager) and tensor.dtype != self._tf.resource

    def _record(
        self, name: str, operands: tuple[Operand, ...], arguments: Mapping[str, Any],
        tensors: Sequence[Any],
    ) -> None:  # fmt: skip
        self._number += 1
        outputs = []
        for index, tensor in enumerate(tensors):
            identifier = f"{self._number}.{index}"
            mark_tensor(tensor, self, identifier)
            if self._hook is not None:
                self._ask_hook(identifier, tensor)
            if self._observe:
                outputs.append(Output(identifier, *describe_values(tensor)))
        if self._observe:
            layer = self._stack[-1] if self._stack else None
            self.events.append(
                Event(self._number, name, operands, tuple(outputs), arguments,
                      self.find_path(), layer, find_source(self._stack))
            )  # fmt: skip

    def find_path(self) -> str:
        """Return the path of the layer that runs, without the model's own name."""
        return "/".join(layer.name for layer in self._stack[1:])

    # Replacement ---------------------------------------------------------------------------------

    def add_input(self, index: int, tensor: Any) -> tuple[str, Any]:
        """Give an input of the model its id; return it, and the tensor that the model reads."""
        identifier = f"0.{index}"
        mark_tensor(tensor, self, identifier)
        if self._hook is not None:
            self._ask_hook(identifier, tensor)
        return identifier, self._substitute(tensor)

    def _ask_hook(self, identifier: str, tensor: Any) -> None:
        assert self._hook is not None
        self._busy = True
        try:
            other = self._hook(identifier, tensor)
        finally:
            self._busy = False
        if other is not None:
            mark_tensor(other, self, identifier)
            # The tensor is kept, so that its address is not another's.
            self._replaced[id(tensor)] = (tensor, other)

    def _substitute(self, value: Any) -> Any:
        if not self._replaced or self._busy:
            return value
        changed = map_tensors(value, self._eager, self._find_replacement)
        self._replaced.clear()
        return changed

    def _find_replacement(self, tensor: Any) -> Any:
        entry = self._replaced.get(id(tensor))
        if entry is None:
            return tensor
        mask = getattr(tensor, "_keras_mask", None)
        if mask is not None:
            entry[1]._keras_mask = mask
        return entry[1]

    # Functions and layers that are one operation -------------------------------------------------

    def _run_scope(
        self, name: str, function: Callable[..., Any], args: Any, kwargs: Any,
        arguments: Mapping[str, Any],
    ) -> Any:  # fmt: skip
        scope = _Scope()
        flat = list(iterate_tensors((args, kwargs), self._values))
        self._scope = scope
        try:
            result = function(*args, **kwargs)
        finally:
            self._scope = None
        results = {id(tensor): tensor for tensor in iterate_tensors(result, self._eager)}
        for tensor in [*results.values()]:
            # A layer computes the mask of its output in its own call.
            mask = getattr(tensor, "_keras_mask", None)
            if mask is not None:
                results.setdefault(id(mask), mask)
        made = [tensor for tensor in results.values() if mark_of(tensor, self) == _INNER]
        if not made:
            return result
        if name == "tf.function" and not any(isinstance(m, WeightSource) for m in scope.operands):
            self._add_variables(scope)
        ordered = self._order_operands(scope, flat, is_function=bool(arguments))
        if self._gives_operands and arguments:
            # Of what is no data, only what is computed of weights: a kernel that is masked.
            self._give_operands(
                [tensor for tensor, _ in ordered],
                [each.weight if _is_computed(each) else each.id for _, each in ordered],
            )
        operands = tuple(operand for _, operand in ordered) if self._observe else ()
        described = {}
        if self._observe:
            described = {
                key: map_tensors(value, self._values, self._describe_tensor)
                for key, value in arguments.items()
            }
        self._record(name, operands, described, made)
        return self._substitute(result)

    def _order_operands(
        self, scope: _Scope, arguments: Sequence[Any], *, is_function: bool
    ) -> list[tuple[Any, Operand]]:
        """Return what a scope read in the order of its arguments, the rest behind it.

        Constants are among the operands of a function; a layer's data are listed once. Beside each
        is the argument, None for the rest.
        """
        if not self._observe and not self._gives_operands:
            return []
        found: list[tuple[Any, Operand]] = []
        used: set[str | WeightSource] = set()
        for tensor in arguments:
            mark = self._find_mark(tensor)
            if mark is None:
                found += [(tensor, self._describe(tensor, None))] if is_function else []
                continue
            if isinstance(mark, WeightSource) and mark not in scope.operands:
                # What was read may be the weight in another shape.
                mark = next(
                    (m for m in scope.operands
                     if isinstance(m, WeightSource) and m.names == mark.names), mark
                )  # fmt: skip
            if mark in scope.operands and (is_function or mark not in used):
                found.append((tensor, scope.operands[mark]))
                used.add(mark)
        return [*found, *((None, o) for mark, o in scope.operands.items() if mark not in used)]

    def _describe_tensor(self, tensor: Any) -> Operand:
        return self._describe(tensor, self._find_mark(tensor))

    def _add_operand(self, scope: _Scope, tensor: Any, mark: Any) -> None:
        if mark is not None and mark != _INNER and mark not in scope.operands:
            scope.operands[mark] = self._describe(tensor, mark)

    def _add_variables(self, scope: _Scope) -> None:
        """Add the variables of the layer that runs: a compiled function does not say what it
        reads."""
        for variable in self._stack[-1].variables if self._stack else ():
            mark = self._find_mark(variable)
            if mark is not None:
                scope.operands[mark] = self._describe(variable, mark)

    # Results -------------------------------------------------------------------------------------

    def find_id(self, tensor: Any) -> str:
        """Return the id of a tensor; empty if no recorded operation made it."""
        mark = mark_of(tensor, self)
        return mark if isinstance(mark, str) else ""


_ALIASES = frozenset(
    {"Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape",
     "CheckNumerics", "DeepCopy"}
)  # fmt: skip
"""Operations whose output is their input."""

_SHAPES = frozenset(
    {"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike", "BroadcastGradientArgs"}
)
"""Operations that read no value of their input."""

_RESHAPES = frozenset({"Reshape", "ExpandDims", "Squeeze"})
_NARROW_KERNELS = {"ResizeBilinear": 2, "ResizeBicubic": 2, "MaxPool3D": 1, "AvgPool3D": 1,
                   "ScaleAndTranslate": 4}  # fmt: skip
"""Operations whose kernel gives float32, or takes nothing else, with the number of their inputs."""


_PROJECTIONS = (
    keras.layers.Dense, keras.layers.EinsumDense,
    keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D, keras.layers.SeparableConv2D,
    keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose,
)  # fmt: skip
"""Layers that are products with a kernel: their input is data, also where it is a constant."""

_WEIGHTED = (
    *_PROJECTIONS, keras.layers.RNN, *(getattr(keras.layers, name) for name in CELL_CLASSES),
    keras.layers.LayerNormalization, keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
)  # fmt: skip
"""Layers with weights that are no table: their input is data, also where it is made of weights."""


def _is_computed(operand: Operand) -> bool:
    return operand.weight is not None and not operand.weight.is_exact


def _is_sorted(order: Sequence[int]) -> bool:
    return list(order) == sorted(order)


def _keeps_type(source: Any, target: Any) -> bool:
    """Return whether a cast changes the precision alone."""
    before, after = source.dtype, target.dtype
    return bool(
        (before.is_floating and after.is_floating) or (before.is_integer and after.is_integer)
    )


def _plain_name(name: str) -> str:
    """Return an operation's name; a compiled function's without its number."""
    return re.sub(r"^__(?:inference|forward)_(.*?)_\d+$", r"\1", name)
