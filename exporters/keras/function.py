"""A Keras model as a function of arrays, which an exported file is compared with."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from exporters.errors import ExportError
from exporters.graph.framework_runs import ModelFunction, perturb
from exporters.graph.model import Array
from exporters.graph.pipeline import scramble
from exporters.keras import structures
from exporters.keras.arguments import Arguments, arrange, result_names
from exporters.keras.calls import eager_functions, move_channels, short_lived_tensors, to_array
from exporters.keras.reasons import describe_error
from exporters.keras.tracing_graph import allow_any_names
from exporters.silence import silence_logging
from parity.numerics.checksum import ALIGNMENT

_ROUNDOFFS = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def to_function(
    model: keras.Model,
    arguments: Arguments,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    channels_first: bool = False,
    other: Mapping[int, Array] | None = None,
    roundoff: float = 0.0,
) -> ModelFunction:
    """Return the model as a function of arrays in the graph's layout and order, on the CPU.

    `inputs` and `outputs` are the names in the graph, which give the order (`arrange`). `other`
    replaces values by the variable's index; `roundoff` is that of a lower precision than the
    model's own, for the perturbed runs. The model's variables stay as they are.
    """
    _, order_of_inputs = arrange(arguments.names, inputs, "inputs", model)
    lowest = max(roundoff, lowest_roundoff(model))
    compiled = _Compiled(model, arguments) if has_loops(model) else None

    def run(inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        by_index = dict(zip(order_of_inputs, inputs, strict=True))
        with silence_logging(), tf.device("/CPU:0"):
            tensors = [_to_tensor(by_index[index]) for index in range(len(by_index))]
            if channels_first:
                tensors = [move_channels(tensor, first=False) for tensor in tensors]
            values = _other_values(model, other or {}, seed, lowest)
            if compiled is not None:
                results = compiled(tensors, values)
            else:
                results = _call(model, arguments, tensors, values)
            _, order = arrange(result_names(model, results), outputs, "outputs", model)
            flat = [tf.convert_to_tensor(leaf) for leaf in structures.flatten(results)]
            if channels_first:
                flat = [move_channels(tensor, first=True) for tensor in flat]
            return [to_array(flat[index]) for index in order]

    return run


def scramble_weights(
    model: keras.Model,
    names: Sequence[str],
    function: Callable[[Mapping[int, Array]], ModelFunction],
) -> tuple[Mapping[str, Array], ModelFunction]:
    """Return the weights with other values, by name, and the model as a function with those."""
    other = {
        index: scramble(np.asarray(variable.value.numpy()), index=index)
        for index, variable in enumerate(model.variables)
    }
    return {name: other[index] for index, name in enumerate(names)}, function(other)


def lowest_roundoff(model: keras.Model) -> float:
    """Return the unit roundoff of the lowest precision that a layer computes in, 0 for float32."""
    layers = model._flatten_layers()
    return max((_ROUNDOFFS.get(str(layer.compute_dtype), 0.0) for layer in layers), default=0.0)


def _to_tensor(array: Array) -> Any:
    return tf.constant(array.astype("S") if array.dtype.kind == "U" else array)


def _other_values(
    model: keras.Model, other: Mapping[int, Array], seed: int | None, roundoff: float
) -> dict[int, Callable[[], Any]]:
    """Return what makes the values of one call by the variable's index, where they are others."""
    makers: dict[int, Callable[[], Any]] = {}
    for index, variable in enumerate(model.variables):
        if seed is None and index not in other:
            continue
        if seed is None:
            makers[index] = functools.partial(tf.constant, other[index])
            continue
        array = other.get(index)
        # A view: without a copy of each weight.
        array = to_array(tf.convert_to_tensor(variable.value)) if array is None else array
        makers[index] = functools.partial(_make_perturbed, array, seed, index, roundoff)
    return makers


def _make_perturbed(array: Array, seed: int, index: int, roundoff: float) -> Any:
    return _share(perturb(array, seed=seed, index=index, roundoff=roundoff))


class _LazyScope(keras.StatelessScope):  # type: ignore[misc]
    """Gives variables other values, each made when it is read, and again if it is read later.

    So a call needs no second copy of all weights.
    """

    def __init__(self, makers: Mapping[int, Callable[[], Any]]) -> None:
        """`makers` are by the variable's id."""
        super().__init__()
        self._makers = makers
        self._values: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def get_current_value(self, variable: Any) -> Any:
        """Return a variable's value in the scope, None where that is its own."""
        key = id(variable)
        value = super().get_current_value(variable)
        if value is None and key in self._makers:
            value = self._values.get(key)
            if value is None:
                with tf.init_scope():  # it may be read within a function's graph
                    value = self._makers[key]()
                self._values[key] = value
        return value


def _share(array: Array) -> Any:
    """Return a tensor in an array's own memory, where TensorFlow could have put it, or a copy."""
    is_plain = array.dtype.name in ("float32", "float64") and array.flags.c_contiguous
    if is_plain and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0:
        return tf.experimental.dlpack.from_dlpack(cast(Any, array).__dlpack__())
    return tf.constant(array)


def _call(
    model: keras.Model,
    arguments: Arguments,
    tensors: Sequence[Any],
    values: Mapping[int, Callable[[], Any]],
) -> Any:
    variables = list(model.variables)
    makers = {id(variables[index]): make for index, make in values.items()}
    try:
        # Eagerly for speed: XLA would compile each grouped convolution anew for each batch size.
        # In the scope a call that writes to a variable leaves the model as it was.
        with eager_functions(), short_lived_tensors(), _LazyScope(makers):
            return arguments.call(model, tensors)
    except ExportError:
        raise
    except Exception as error:  # whatever a layer's own call raises
        if "Conv3D" in str(error):
            # TensorFlow has grouped convolutions in three dimensions in graphs alone.
            return _Compiled(model, arguments)(tensors, values)
        raise RuntimeError(describe_error(error)) from error


class _Compiled:
    """A model's call as a function of TensorFlow, for any number of rows."""

    def __init__(self, model: keras.Model, arguments: Arguments) -> None:
        self.model = model
        self.arguments = arguments
        self.functions: dict[tuple[tuple[int | None, ...], ...], Any] = {}
        # With an unknown length, Keras runs as many steps as the batch has rows.
        layers = model._flatten_layers()
        self.keeps_sizes = any(isinstance(x, keras.layers.TimeDistributed) for x in layers)
        self.results: Any = None  # the structure, with an index at each leaf

    def __call__(self, tensors: Sequence[Any], values: Mapping[int, Callable[[], Any]]) -> Any:
        key = tuple(
            self._signature(leaf.shape, tuple(tensor.shape))
            for tensor, leaf in zip(tensors, self.arguments.leaves, strict=True)
        )
        given = [
            values[index]() if index in values else variable.value
            for index, variable in enumerate(self.model.variables)
        ]
        try:
            if key not in self.functions:
                self.functions[key] = self._compile(key, tensors)
            found = self.functions[key](*given, *tensors)
        except Exception as error:  # whatever a layer's own call raises
            raise RuntimeError(describe_error(error)) from error
        return structures.map_leaves(lambda index: found[index], self.results)

    def _signature(
        self, declared: tuple[int | None, ...], shape: tuple[int, ...]
    ) -> tuple[int | None, ...]:
        """Return the shape of a function's argument: None for the sizes that vary."""
        if len(declared) != len(shape):
            return shape
        if self.keeps_sizes:
            declared = declared[:1] + shape[1:]
        return tuple(None if d is None else s for d, s in zip(declared, shape, strict=True))

    def _compile(
        self,
        shapes: Sequence[tuple[int | None, ...]],
        tensors: Sequence[Any],
    ) -> Any:
        variables = list(self.model.variables)

        def call(*given: Any) -> list[Any]:
            mapping = list(zip(variables, given[: len(variables)], strict=True))
            with allow_any_names(), keras.StatelessScope(mapping):
                results = self.arguments.call(self.model, given[len(variables) :])
            count = iter(range(len(structures.flatten(results))))
            self.results = structures.map_leaves(lambda _: next(count), results)
            return [tf.convert_to_tensor(leaf) for leaf in structures.flatten(results)]

        signature = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
        for tensor, shape in zip(tensors, shapes, strict=True):
            signature.append(tf.TensorSpec(shape, tensor.dtype))
        return tf.function(call, input_signature=signature)


def has_loops(model: keras.Model) -> bool:
    """Return whether a layer loops over time, which eager execution does slowly."""
    return any(isinstance(layer, keras.layers.RNN) for layer in model._flatten_layers())
