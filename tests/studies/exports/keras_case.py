"""A Keras model of the study: its inputs, its floors, and the exporters beside this project's.

The floor of an output is how far it moves when the model's weights and inputs move by one unit in
the last place of the lowest precision that a layer computes in; a file is right within `LIMIT` of
them, since both programs lie within half of that of the exact result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf

from exporters import keras_onnx
from tests.studies.exports.case import Array

Inputs = Callable[[int, int], tuple[Any, ...]]
"""The positional arguments of a model's call, from the number of rows and a seed."""

LIMIT = 8.0

_REPLICATES = 5

_SEEDS = (11, 12, 21)
"""A floor depends on the inputs: those that files are judged on, and others."""


@dataclass(frozen=True)
class Entry:
    """How a model is built and called. `sizes`: values for axes that vary, beside the batch's."""

    name: str
    kind: str
    build: Callable[[], keras.Model]
    arguments: Inputs | None = None
    high: int = 20
    sizes: tuple[int, ...] = (9,)
    heavy: bool = False
    fixed_batch: bool = False
    random: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def inputs(self, model: keras.Model, rows: int, seed: int) -> tuple[Any, ...]:
        """Return the arguments of a call: normal floats, integers from 0 to `high`."""
        if self.arguments is not None:
            return self.arguments(rows, seed)
        rng = np.random.default_rng(seed)
        drawn = [self._draw(tensor, rows, rng) for tensor in model.inputs]
        structure = getattr(model, "_inputs_struct", None)
        single = structure is None
        return (drawn[0] if single else keras.tree.pack_sequence_as(structure, drawn),)

    def _draw(self, tensor: Any, rows: int, rng: np.random.Generator) -> Array:
        sizes = iter(self.sizes * 4)
        first = rows if tensor.shape[0] is None else tensor.shape[0]
        shape = (first, *(size or next(sizes) for size in tensor.shape[1:]))
        dtype = np.dtype(keras.backend.standardize_dtype(tensor.dtype))
        if dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.kind in "iu":
            return rng.integers(0, self.high, shape).astype(dtype)
        return rng.standard_normal(shape).astype(dtype)


class KerasModel:
    """A model that was built, with weights of its own: a default batch-norm does nothing."""

    def __init__(self, entry: Entry) -> None:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        self.entry = entry
        self.model = entry.build()
        self.batches = (3,) if entry.fixed_batch else (1, 2, 3)
        self.fallback = ()
        self.structure = entry.inputs(self.model, 3, 0)
        _shake(self.model)
        self._calibrate()
        kinds = {str(layer.compute_dtype) for layer in self.model._flatten_layers()}
        self.lowest = max((_EPSILONS.get(kind, 0.0) for kind in kinds), default=0.0)

    def draw(self, batch: int, seed: int) -> list[Array]:
        """Return inputs in the order in which the model's arguments are written."""
        leaves = [leaf for _, leaf in flatten(self.entry.inputs(self.model, batch, seed))]
        return [leaf.astype(object) if leaf.dtype.kind == "U" else leaf for leaf in leaves]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs in the order in which the model's result is written."""
        return [np.asarray(leaf) for _, leaf in flatten(self._call(inputs))]

    def _call(self, inputs: Sequence[Array]) -> Any:
        leaves = iter(inputs)

        def convert(_: Any) -> Any:
            array = next(leaves)
            return tf.constant(array.astype("U") if array.dtype == object else array)

        arguments = _map(convert, self.structure)
        training = {"training": False} if self.model._call_has_training_arg else {}
        try:
            return self.model(*arguments, **training)
        except tf.errors.OpError:
            # Keras runs grouped convolutions in three dimensions in graph mode only.
            return tf.function(lambda *given: self.model(*given, **training))(*arguments)

    def _calibrate(self) -> None:
        """Give batch-norms the statistics of their data, without which deep networks overflow."""
        layers = self.model._flatten_layers()
        norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
        if not norms or self.entry.fixed_batch:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        self.model(*self.entry.inputs(self.model, 8, 3), training=True)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    @functools.cached_property
    def tolerance(self) -> list[float]:
        """The relative difference of each output that rounding explains."""
        values = [np.asarray(variable) for variable in self.model.variables]
        floors: list[float] = []
        for replicate in range(_REPLICATES):
            inputs = self.draw(max(self.batches), _SEEDS[replicate % len(_SEEDS)])
            plain = self.run(inputs)
            floors = floors or [self._roundoff(array) for array in plain]
            rng = np.random.default_rng(replicate)
            for variable, value in zip(self.model.variables, values, strict=True):
                variable.assign(_perturb(value, rng, self.lowest))
            moved = self.run([_perturb(array, rng, self.lowest) for array in inputs])
            for variable, value in zip(self.model.variables, values, strict=True):
                variable.assign(value)
            for index, (array, exact) in enumerate(zip(moved, plain, strict=True)):
                floors[index] = max(floors[index], _relative(array, exact))
        return [LIMIT * floor for floor in floors]

    def _roundoff(self, array: Array) -> float:
        own = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
        return max(own, self.lowest) / 2

    def export(self, path: Path) -> Any:
        """Export with this project's exporter."""
        return keras_onnx.export(self.model, path, **self.entry.options)

    def check_names(self, path: Path) -> str:
        """Return what is wrong with the names of a file's outputs, which the model has keys for."""
        keys = self._output_names()
        found = [value.name for value in onnx.load(path, load_external_data=False).graph.output]
        return f"outputs are called {found}, expected {keys}" if keys and found != keys else ""

    def _output_names(self) -> list[str]:
        """Return the outputs' keys, joined, or nothing where an output has no key."""
        keys = [key for key, _ in flatten(self._call(self.draw(max(self.batches), 0)))]
        named = all(key and not key.replace("_", "").isdigit() for key in keys)
        return keys if named else []

    def rivals(self) -> Mapping[str, Callable[[Path], None]]:
        """Return the other exporters; what they write in the order of sorted keys is put back."""

        def ordered(export: Callable[[Path], None]) -> Callable[[Path], None]:
            def run(path: Path) -> None:
                export(path)
                self._put_in_order(path)

            return run

        return {"tf2onnx": ordered(self._export_tf2onnx), "keras": ordered(self._export_keras)}

    def _put_in_order(self, path: Path) -> None:
        keys = [key for key, _ in flatten(self.entry.inputs(self.model, 1, 0)[0])]
        proto = onnx.load(path)
        for values, names in (
            (proto.graph.input, keys),
            (proto.graph.output, self._output_names()),
        ):
            by_name = {value.name: value for value in values}
            if len(names) > 1 and by_name.keys() == set(names):
                ordered = [
                    onnx.ValueInfoProto.FromString(by_name[n].SerializeToString()) for n in names
                ]
                del values[:]
                values.extend(ordered)
            elif len(names) > 1 and len(values) == len(names) and names != sorted(names):
                ordered = [
                    onnx.ValueInfoProto.FromString(
                        values[sorted(names).index(n)].SerializeToString()
                    )
                    for n in names
                ]
                del values[:]
                values.extend(ordered)
        onnx.save(proto, path)

    def _export_tf2onnx(self, path: Path) -> None:
        import tf2onnx

        model = self.model
        tensors = getattr(model, "inputs", None)
        if tensors:
            signature = [tf.TensorSpec(t.shape, t.dtype, t.name) for t in tensors]
        else:
            if len(self.structure) != 1:
                raise ValueError("from_keras takes one argument")
            leaves = flatten(self.structure[0], ("input",))
            specs = [
                tf.TensorSpec((None, *array.shape[1:]), array.dtype, name) for name, array in leaves
            ]
            empty = keras.tree.map_structure(lambda _: 0, self.structure[0])
            signature = [keras.tree.pack_sequence_as(empty, specs)]
        training = {"training": False} if model._call_has_training_arg else {}
        try:
            tf2onnx.convert.from_keras(model, signature, opset=17, output_path=str(path))
        except Exception:  # noqa: BLE001 - its faults with Keras 3 are not its converter's
            called = tf.function(
                lambda *given: model(*given, **training), input_signature=signature
            )
            tf2onnx.convert.from_function(called, signature, opset=17, output_path=str(path))

    def _export_keras(self, path: Path) -> None:
        self.model.export(str(path), format="onnx", verbose=False)


def flatten(value: Any, keys: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Return the leaves in the order in which they were written, with their keys, joined."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in flatten(item, (*keys, key))]
    if isinstance(value, (list, tuple)):
        return [leaf for i, item in enumerate(value) for leaf in flatten(item, (*keys, str(i)))]
    return [("_".join(keys), value if isinstance(value, np.ndarray) else np.asarray(value))]


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map(change, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map(change, item) for item in value)
    return change(value)


def _shake(model: keras.Model) -> None:
    """Give every variable its own values; kernels keep their scale."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "float" not in variable.dtype:
            continue
        noise = rng.uniform(-0.3, 0.3, variable.shape)
        value = np.asarray(variable).astype(np.float64) * (1 + noise)
        if "variance" in variable.path:
            value += 0.5 * np.abs(noise)
        elif len(variable.shape) < 2:
            value += 0.1 * noise
        variable.assign(value.astype(np.asarray(variable).dtype))


_EPSILONS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}

_LARGE = 1 << 16


def _perturb(array: Array, rng: np.random.Generator, lowest: float) -> Array:
    """Multiply floats by 1 + U(-1, 1) * epsilon of their own precision, or of a lower one."""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        return array
    epsilon = max(float(np.finfo(array.dtype).eps), lowest)
    if array.size > _LARGE and array.dtype == np.float32:
        # One unit in the last place or none, in the array's own precision, which is faster.
        units = rng.integers(-1, 1, array.shape, np.int8, endpoint=True)
        return np.asarray(array * (1 + units * np.float32(epsilon)))
    noise = rng.uniform(-1, 1, array.shape)
    return np.asarray((array.astype(np.float64) * (1 + noise * epsilon)).astype(array.dtype))


def _relative(found: Array, exact: Array) -> float:
    """Return the larger of the relative L2 distance and the largest one over the scale."""
    if exact.dtype.kind != "f":
        return 0.0
    wide = exact.astype(np.float64)
    finite = np.isfinite(wide) & np.isfinite(found)
    move = np.abs(found.astype(np.float64) - wide)[finite]
    norm = float(np.linalg.norm(wide[finite]))
    if not norm:
        return 0.0
    largest = float(np.abs(wide[finite]).max())
    return max(float(np.linalg.norm(move)) / norm, float(move.max()) / largest)
