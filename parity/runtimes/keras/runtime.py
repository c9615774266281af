"""Keras: build or call a model, copy weights, capture the outputs of layers, export."""

from __future__ import annotations

import importlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from parity.errors import TableError, UsageError, WeightError
from parity.network import callables, kinds, layouts
from parity.network.spec import ModelSpec
from parity.network.table import (
    INPUT,
    LOGITS,
    LayerTable,
    Row,
    Weight,
    canonical_name,
    parse_torch_point,
)
from parity.runtimes.base import Array, ModelRuntime
from parity.runtimes.floors import Sink
from parity.runtimes.keras import checkpoints, grouped_convolutions
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import float64 as keras_exact
from parity.runtimes.keras import layers as keras_layers

logging.getLogger("tensorflow").setLevel(logging.ERROR)
keras_exact.install()


class Runtime(ModelRuntime):
    """The child process's Keras operations."""

    name = "keras"
    model: keras.Model
    _reference: str | None = None

    def versions(self) -> dict[str, str]:
        backend = keras.backend.backend()
        module = importlib.import_module(backend)
        return {"keras": keras.__version__, backend: module.__version__}

    def pin(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        return keras_device.pin(precision, device, xla=xla)

    def placed(self, precision: str, device: str) -> keras.Model:
        keras_device.check(device)
        dtype = "float32" if precision == "tf32" else precision
        return self.copied(dtype, device=device)

    def release(self) -> None:
        keras_device.release()

    def is_out_of_memory(self, error: Exception) -> bool:
        return keras_device.is_out_of_memory(error)

    def devices(self) -> list[str]:
        return keras_device.devices()

    def require(self, *, device: str) -> dict[str, Any]:
        keras_device.check(device)
        return keras_device.facts(device)

    def build(self, spec: ModelSpec) -> keras.Model:
        # A child may have held somebody's own model before.
        self._reference = None
        module = importlib.import_module(f"parity.network.models.{spec.family}.keras")
        with undrawn_weights():
            return module.build(spec)

    def call_reference(self, reference: str) -> keras.Model:
        self._reference = reference
        model = callables.call(reference)
        if not isinstance(model, keras.Model):
            raise UsageError(f"'{reference}': expected a keras.Model, found {type(model).__name__}")
        return model

    def read_weights(self) -> dict[str, Array]:
        return read_weights(self.model, self.table.rows)

    def write_weights(self, values: Mapping[str, Array]) -> None:
        write_weights(self.model, self.table.rows, values)

    def load(
        self, *, spec: dict[str, Any] | None = None, reference: str | None = None
    ) -> dict[str, Any]:
        with keras_device.scope("cpu"):
            return super().load(spec=spec, reference=reference)

    def replica(
        self, dtype: str, *, device: str = "cpu"
    ) -> tuple[keras.Model, Callable[[Mapping[str, Array]], None]]:
        if dtype == "float64":
            keras_device.require_float64()
        before = keras.config.floatx()
        policy = keras.config.dtype_policy()
        try:
            keras.config.set_floatx(dtype)
            keras.config.set_dtype_policy(dtype)
            with keras_device.scope(device):
                model = self._again()
        finally:
            keras.config.set_floatx(before)
            keras.config.set_dtype_policy(policy)
        if model.layers and model.dtype != dtype:
            raise UsageError(
                f"the Keras model cannot be built in {dtype}: its layers have a dtype of their own"
            )
        if dtype == "float64":
            grouped_convolutions.without_xla(model)

        def assign(values: Mapping[str, Array]) -> None:
            with keras_device.scope(device):
                write_weights(model, self.table.rows, values)

        return model, assign

    def copied(self, dtype: str, *, device: str = "cpu") -> keras.Model:
        model, _ = self.replica(dtype, device=device)
        with keras_device.scope(device):
            # One builder made both, so that the variables pair by their order; a cast is all.
            for copy, variable in zip(model.variables, self.model.variables, strict=True):
                copy.assign(keras.ops.cast(variable, copy.dtype))
        return model

    def _again(self) -> keras.Model:
        if self._reference is None:
            assert self.spec is not None
            return self.build(self.spec)
        model = self.call_reference(self._reference)
        # What no table row speaks of keeps the value that it has in the first model.
        model.set_weights(self.model.get_weights())
        return model

    def weights_of(self, row: Row) -> Iterable[Weight]:
        return weights_of(self.model, row)

    def forward(
        self,
        x: Array,
        rows: Sequence[Row],
        sink: Sink,
        *,
        model: keras.Model | None = None,
        device: str = "cpu",
        xla: bool = False,
    ) -> float:
        model = self.model if model is None else model
        wanted = {row.keras.removesuffix("#0"): row for row in rows}
        for reference in wanted:
            keras_layers.tensor(model, reference)
        with keras_device.scope(device):
            data = keras.ops.convert_to_tensor(np.ascontiguousarray(layouts.to_nhwc(x)))
            if xla:
                return self._compiled(model, data, wanted, sink)

            def seen(reference: str, tensor: Any) -> Any:
                row = wanted.get(reference)
                if row is None:
                    return tensor
                instead = sink(row, canonical(tensor))
                if instead is None:
                    return tensor
                return keras.ops.convert_to_tensor(np.ascontiguousarray(layouts.to_nhwc(instead)))

            started = time.perf_counter()
            output = keras_layers.walk(model, data, seen)
            self.where = keras_device.where(output)
            return time.perf_counter() - started

    def _compiled(
        self, model: keras.Model, data: Any, wanted: Mapping[str, Row], sink: Sink
    ) -> float:
        """Run the whole model as one XLA program, the wanted tensors among its outputs."""

        def whole(data: Any) -> tuple[dict[str, Any], Any]:
            found: dict[str, Any] = {}

            def seen(reference: str, tensor: Any) -> Any:
                if reference in wanted:
                    found[reference] = tensor
                return tensor

            return found, keras_layers.walk(model, data, seen)

        run = keras_device.compiled(whole)
        run(data)
        started = time.perf_counter()
        tensors, output = run(data)
        keras.ops.convert_to_numpy(output)
        seconds = time.perf_counter() - started
        self.where = keras_device.where(output)
        for reference, row in wanted.items():
            sink(row, canonical(tensors[reference]))
        return seconds

    def statistics(self, model: keras.Model, x: Array) -> Iterable[tuple[Row, Array, Array]]:
        rows = [row for row in self.table.rows if row.kind == "batch_norm"]
        layers = [model.get_layer(row.keras) for row in rows]
        for layer in layers:
            # Without memory of earlier batches the moving statistics become the batch's own.
            layer.momentum = 0.0
        with keras_device.scope("cpu"):
            model(keras.ops.convert_to_tensor(layouts.to_nhwc(x)), training=True)
        return [
            (row, np.asarray(layer.moving_mean), np.asarray(layer.moving_variance))
            for row, layer in zip(rows, layers, strict=True)
        ]

    def checkpoint(self, path: Path, table: LayerTable) -> tuple[dict[str, Array], Sequence[str]]:
        return checkpoints.read(path, table), ()

    def save_checkpoint(self, values: Mapping[str, Array], path: Path) -> None:
        if path.name.endswith(".weights.h5"):
            self.model.save_weights(path)
        else:
            self.model.save(path)

    def parameters(self) -> int:
        return sum(math.prod(variable.shape) for variable in self.model.trainable_variables)

    def layers(self, input_shape: Sequence[int]) -> list[dict[str, Any]]:
        return keras_layers.describe(self.model, self.table, input_shape)

    def trace(self, *, opset: int | None, input_shape: Sequence[int], names: dict[str, str]) -> Any:
        from exporters import keras_onnx

        options: dict[str, Any] = {} if opset is None else {"opset": opset}
        return keras_onnx.trace(
            self.model,
            inputs=[INPUT],
            outputs=[LOGITS],
            taps=names,
            channels_first=True,
            **options,
        )

    def placeholders(self) -> Mapping[str, Array]:
        from exporters import keras_onnx

        return keras_onnx.weights(self.model)

    def export_to(self, path: Path, *, input_shape: Sequence[int], **options: Any) -> Any:
        from exporters import keras_onnx

        return keras_onnx.export(self.model, path, channels_first=True, **options)


def weights_of(model: keras.Model, row: Row) -> Iterator[Weight]:
    """The weights of a row's layer, in canonical shapes.

    They have no name where the row's tensor is no PyTorch module's own.
    """
    if not row.keras or (row.torch and parse_torch_point(row.torch).is_input):
        return
    held = grouped_convolutions.variables(keras_layers.find(model, row.keras))
    for role in kinds.get(row.kind).roles:
        variable = held.get(role.keras)
        if variable is not None:
            shape = role.from_keras(np.asarray(variable)).shape
            yield Weight(role.name, canonical_name(row, role.name), role.keras, tuple(shape))


def read_weights(model: keras.Model, rows: Iterable[Row]) -> dict[str, Array]:
    """The model's weights by canonical name, in PyTorch's layout, as float32."""
    return {
        weight.name: np.ascontiguousarray(
            kinds.get(row.kind).role(weight.role).from_keras(np.asarray(variable)),
            dtype=np.float32,
        )
        for row, weight, variable in _variables(model, rows)
    }


def write_weights(model: keras.Model, rows: Iterable[Row], values: Mapping[str, Array]) -> None:
    """Copy canonical weights into the variables that the table pairs them with."""
    for row, weight, variable in _variables(model, rows):
        value = np.asarray(values[weight.name])
        role = kinds.get(row.kind).role(weight.role)
        value = role.to_keras(value, shape=tuple(variable.shape))
        if tuple(variable.shape) != value.shape:
            raise TableError(
                f"{row.name}/{weight.role}: Keras's '{row.keras}' has the shape "
                f"{tuple(variable.shape)}, the table says {value.shape}"
            )
        value = np.ascontiguousarray(value)
        variable.assign(value)
        held = np.asarray(variable)
        bits = f"u{value.itemsize}"
        if held.dtype == value.dtype and not np.array_equal(held.view(bits), value.view(bits)):
            raise WeightError(f"{weight.name}: Keras holds other bits than it was given")


def _variables(model: keras.Model, rows: Iterable[Row]) -> Iterable[tuple[Row, Any, Any]]:
    for row in rows:
        if not (row.weights and row.keras):
            continue
        layer = keras_layers.find(model, row.keras)
        held = grouped_convolutions.variables(layer)
        for weight in row.weights:
            if weight.keras not in held:
                raise TableError(
                    f"{row.name}/{weight.role}: the Keras layer '{row.keras}' has no "
                    f"'{weight.keras}'; it has {', '.join(held) or 'no weights'}"
                )
            yield row, weight, held[weight.keras]


def canonical(tensor: Any) -> Array:
    """A layer's tensor in NCHW, as NumPy holds it."""
    array = np.asarray(keras.ops.convert_to_numpy(tensor))
    if array.dtype.name == "bfloat16":
        # NumPy has no such type of its own, and every bfloat16 is a float32.
        array = array.astype(np.float32)
    return np.ascontiguousarray(layouts.to_nchw(array))


@contextmanager
def undrawn_weights() -> Any:
    """While open, kernels are built as zeros: no random number is drawn to be overwritten."""
    draw = keras.initializers.GlorotUniform.__call__

    def zeros(self: Any, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.zeros(shape, dtype)

    keras.initializers.GlorotUniform.__call__ = zeros
    try:
        yield
    finally:
        keras.initializers.GlorotUniform.__call__ = draw
