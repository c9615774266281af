"""The Keras child's operations."""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import safetensors
import safetensors.numpy

from parity.errors import UsageError, WeightError
from parity.network.checkpoint_fit import join_first
from parity.network.spec import ModelSpec
from parity.network.table import INPUT, LOGITS, LayerTable, Row, Weight
from parity.network.trained_layout import (
    WEIGHT_PAIRS,
    TrainedLayout,
    WeightMap,
    pairs_from_json,
)
from parity.network.weights import read_metadata
from parity.processes.references import ModelReference
from parity.processes.training_requests import TrainerRequest
from parity.runtimes.base import ModelRuntime
from parity.runtimes.floors import TensorHook
from parity.runtimes.framework import ForwardResult
from parity.runtimes.keras import (
    checkpoints,
    grouped_convolutions,
    load,
    predict,
    references,
    run,
    train,
    weights,
)
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import layers as keras_layers
from parity.runtimes.keras.graphs import KerasGraphs, build_model
from parity.runtimes.keras.pieces import KerasPieces
from parity.runtimes.keras.repair import KerasRepairs
from parity.runtimes.keras.replicas import Replica, move_weights
from parity.runtimes.keras.variables import name_variables, raw_variable
from parity.runtimes.keras.weights import Array
from parity.runtimes.loaded import LoadedModel
from parity.text import one_line

logging.getLogger("tensorflow").setLevel(logging.ERROR)


class Runtime(KerasRepairs, KerasPieces, KerasGraphs, ModelRuntime):
    """One Keras model: `parity.runtimes.framework.Framework`."""

    name = "keras"
    model: keras.Model
    _callable_path: str | None = None
    _map: WeightMap
    """Where a model with a layout has the canonical weights."""

    @classmethod
    def clear_framework_state(cls) -> None:
        """Forget the numbers in the names of layers, and the graphs of earlier models."""
        keras.backend.clear_session()

    def versions(self) -> dict[str, str]:
        backend = keras.backend.backend()
        module = importlib.import_module(backend)
        return {"keras": keras.__version__, backend: module.__version__}

    def pin_flags(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        return keras_device.pin_flags(precision, device, xla=xla)

    def list_devices(self) -> list[str]:
        return keras_device.list_devices()

    def require_device(self, *, device: str) -> dict[str, Any]:
        keras_device.require_device(device)
        return keras_device.describe_device(device)

    def release_memory(self) -> None:
        keras_device.release_memory()

    def is_out_of_memory(self, error: Exception) -> bool:
        return keras_device.is_out_of_memory(error)

    def load(
        self, *, spec: dict[str, Any] | None = None, callable_path: str | None = None
    ) -> dict[str, Any]:
        """Load as every runtime, on the CPU."""
        with keras_device.device_scope("cpu"):
            return super().load(spec=spec, callable_path=callable_path)

    def build(self, spec: ModelSpec) -> keras.Model:
        # The child may have loaded a user's model before.
        self._callable_path = None
        return load.build_twin(spec)

    def build_from_callable(self, callable_path: str) -> keras.Model:
        self._callable_path = callable_path
        return load.build_from_callable(callable_path)

    def load_model_reference(
        self,
        reference: ModelReference,
        *,
        trust: Sequence[str],
        custom_objects: str | None,
        seed: int = 0,
    ) -> LoadedModel:
        self._callable_path = None
        with keras_device.device_scope("cpu"):
            return references.load_reference(
                reference, trust=trust, custom_objects=custom_objects, seed=seed
            )

    def load_model_checkpoint(self, path: str) -> Sequence[str]:
        if path.endswith(".safetensors"):
            self._load_trained_checkpoint(Path(path))
            return ()
        with keras_device.device_scope("cpu"):
            references.load_checkpoint(self.model, path, self.example)
        return ()

    def _load_trained_checkpoint(self, path: Path) -> None:
        """Load a checkpoint of a training run, in canonical form, whose metadata has the pairs."""
        metadata = read_metadata(path)
        try:
            pairs = pairs_from_json(json.loads(metadata.get(WEIGHT_PAIRS, "[]")))
            values = safetensors.numpy.load_file(path)
            if not self.model.built or not self.model.variables:
                images = json.loads(metadata["preprocessing"])
                shape = (1, *images["image_size"], images["channels"])
                self.model(np.zeros(shape, np.float32))
        except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise WeightError(
                f"{path}: cannot be read as a checkpoint that `parity train` wrote: "
                f"{type(error).__name__}: {one_line(str(error), longest=160)}"
            ) from error
        shapes = {name: value.shape for name, value in values.items()}
        own = {name: tuple(each.shape) for name, each in name_variables(self.model).items()}
        wanted = {pair.other for pair in pairs} if pairs else set(shapes)
        missing = sorted(wanted - set(own))
        if missing:
            raise WeightError(
                f"{path}: the model has no weight {missing[0]}; expected a checkpoint that `parity "
                "train` wrote for this model, or .weights.h5, .keras or .h5"
            )
        used = {pair.reference for pair in pairs} if pairs else set(shapes)
        layout = TrainedLayout({n: s for n, s in shapes.items() if n in used}, 0, pairs)
        found = layout.build_map(own, source="the Keras model")
        self.write_parameters({name: found.to_variable(name, values) for name in found.segments})

    def save_model_checkpoint(self, path: Path) -> None:
        references.save_checkpoint(self.model, path)

    def _rebuild(self) -> keras.Model:
        """Build the loaded model once more."""
        if self._callable_path is None:
            assert self.spec is not None
            return self.build(self.spec)
        model = self.build_from_callable(self._callable_path)
        # State that no table row lists keeps the value that it has in the first model.
        model.set_weights(self.model.get_weights())
        return model

    def build_replica(
        self, dtype: str, *, device: str = "cpu", is_trained: bool = False
    ) -> tuple[keras.Model, Callable[[Mapping[str, Array]], None]]:
        if dtype == "float64":
            keras_device.require_float64()
        with load.default_dtype(dtype), keras_device.device_scope(device):
            model = self._rebuild()
        if model.layers and model.dtype != dtype:
            raise UsageError(
                f"the Keras model cannot be built in {dtype}: its layers have a dtype of their own"
            )
        # Without XLA a grouped convolution has no gradient on the CPU.
        if dtype == "float64" and not is_trained:
            grouped_convolutions.disable_xla(model)

        def set_weights(values: Mapping[str, Array]) -> None:
            with keras_device.device_scope(device):
                weights.write_weights(model, self.table.rows, values)

        return model, set_weights

    def copy_model(self, dtype: str, *, device: str = "cpu") -> keras.Model:
        model, _ = self.build_replica(dtype, device=device)
        with keras_device.device_scope(device):
            # Both models come from one builder, so their variables have the same order.
            for copy, variable in zip(model.variables, self.model.variables, strict=True):
                copy.assign(keras.ops.cast(variable, copy.dtype))
        return model

    def copy_to_device(self, precision: str, device: str) -> keras.Model:
        keras_device.require_device(device)
        dtype = "float32" if precision == "tf32" else precision
        return self.copy_model(dtype, device=device)

    def find_weights(self, row: Row) -> Iterable[Weight]:
        return weights.find_weights(self.model, row)

    def read_weights(self) -> dict[str, Array]:
        return weights.read_weights(self.model, self.table.rows)

    def write_weights(self, values: Mapping[str, Array]) -> None:
        weights.write_weights(self.model, self.table.rows, values)

    def count_parameters(self) -> int:
        return sum(math.prod(variable.shape) for variable in self.model.trainable_variables)

    def describe_layers(self, input_shape: Sequence[int]) -> list[dict[str, Any]]:
        return keras_layers.describe_layers(self.model, self.table, input_shape)

    def parse_checkpoint(
        self, path: Path, table: LayerTable
    ) -> tuple[dict[str, Array], Sequence[str]]:
        return checkpoints.read(path, table), ()

    def save_checkpoint(self, values: Mapping[str, Array], path: Path) -> None:
        if path.name.endswith(".weights.h5"):
            self.model.save_weights(path)
        elif path.suffix == ".h5":
            # Keras's older form, one file with the architecture.
            self.model.save(path, include_optimizer=False)
        else:
            self.model.save(path)

    def forward(
        self,
        x: Array,
        rows: Sequence[Row],
        hook: TensorHook,
        *,
        model: keras.Model | None = None,
        device: str = "cpu",
        xla: bool = False,
    ) -> ForwardResult:
        model = self.model if model is None else model
        return run.forward(model, x, rows, hook, device=device, xla=xla)

    def create_trainer(self, request: TrainerRequest) -> train.KerasTrainer:
        move_weights(self.model, request.device)
        trainer = (
            train.KerasTrainer(self.model, weights.map_weights(self.model, self.table), request)
            if self.layout is None
            else train.KerasTrainer(self.model, self._map, request, classes=self.layout.classes)
        )
        # The trainers of compared steps leave the seeds alone: the run goes on with them, and
        # TensorFlow would optimise every compiled step once more.
        keras.utils.set_random_seed(request.seed)
        return trainer

    def bind_layout(self, layout: TrainedLayout) -> None:
        if not isinstance(self.model, keras.Model):
            raise UsageError(
                f"keras: expected a keras.Model to train, found a {type(self.model).__name__}"
            )
        variables = name_variables(self.model)
        shapes = {name: tuple(each.shape) for name, each in variables.items()}
        found = layout.build_map(shapes, source="the Keras model")
        trained = {id(variable) for variable in self.model.trainable_variables}
        alone = [
            name
            for name, variable in variables.items()
            if id(variable) in trained and name not in found.segments
        ]
        if alone:
            raise WeightError(
                f"the Keras model: the reference has no partner of {join_first(alone)}"
            )
        self._map = found

    def read_mapped_weights(self) -> dict[str, Array]:
        values = self.read_parameters()
        found = self._map.to_canonical({name: values[name] for name in self._map.segments})
        return {name: np.ascontiguousarray(value) for name, value in found.items()}

    def write_mapped_weights(self, values: dict[str, Array]) -> None:
        names = self._map.segments
        self.write_parameters({name: self._map.to_variable(name, values) for name in names})

    def _build_again(self, dtype: str, device: str) -> tuple[keras.Model, WeightMap]:
        """Build the model with a layout once more, with its weights; return its weight map.

        Its variables may have other names, since Keras numbers layers without one.
        """
        assert self.layout is not None
        if dtype == "float64":
            keras_device.require_float64()
        with keras_device.device_scope(device):
            model = self.load_again().model
            if model is self.model:
                raise UsageError(
                    "keras: the reference names a model, of which there is one alone; --verify "
                    "needs a second one: name a function that builds it"
                )
            build_model(model, self.recorded_inputs, self.describe_inputs())
        own, others = name_variables(self.model), name_variables(model)
        if [tuple(v.shape) for v in own.values()] != [tuple(v.shape) for v in others.values()]:
            raise UsageError("keras: built once more, the model has other weights")
        with keras_device.device_scope(device):
            for variable, other in zip(own.values(), others.values(), strict=True):
                other.assign(raw_variable(variable))
        if dtype == "float64":
            Replica(model, dtype, device).keep()
        return model, self._map.with_names(dict(zip(own, others, strict=True)))

    def create_observed_trainer(
        self, request: TrainerRequest, dtype: str, device: str
    ) -> train.ObservedKerasTrainer:
        if device != "cpu":
            self.pin_flags("float32", device)
        if self.layout is not None:
            copied, names = self._build_again(dtype, device)
            return train.ObservedKerasTrainer(copied, names, request, dtype, layout=self.layout)
        model, _ = self.build_replica(dtype, device=device, is_trained=True)
        return train.ObservedKerasTrainer(
            model, weights.map_weights(model, self.table), request, dtype, table=self.table
        )

    def draw_initial_weights(self, seed: int) -> dict[str, Array]:
        assert self.spec is not None
        model = load.build_initialized_twin(self.spec, seed=seed)
        return weights.read_weights(model, self.table.rows)

    def prepare_prediction(self, *, precision: str, device: str) -> predict.Predictor:
        keras_device.pin_flags(precision, device)
        if (precision, device) == ("float32", "cpu"):
            return predict.CompiledPredictor(self.model)
        if self.spec is not None:
            if device == "gpu":
                return predict.CompiledPredictor(self.copy_to_device(precision, device), device)
            return predict.CompiledPredictor(self.copy_model(precision))
        return predict.ReplicaPredictor(self.model, self.copy_to_precision(precision, device))

    def compute_outputs(self, prepared: predict.Predictor, images: Array) -> Array:
        return prepared(images)

    def limit_threads(self, count: int) -> int:
        return train.limit_threads(count)

    def measure_batch_norm_inputs(
        self, model: keras.Model, x: Array
    ) -> Iterable[tuple[Row, Array, Array]]:
        return run.measure_batch_norm_inputs(model, self.table.rows, x)

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

    def read_structure_weights(self) -> Mapping[str, Array]:
        from exporters import keras_onnx

        return keras_onnx.weights(self.model)

    def export_onnx(self, path: Path, *, input_shape: Sequence[int], **options: Any) -> Any:
        from exporters import keras_onnx

        return keras_onnx.export(self.model, path, channels_first=True, **options)
