"""The PyTorch child's operations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from parity.errors import WeightError
from parity.network.spec import ModelSpec
from parity.network.table import LOGITS, LayerTable, Row, Weight
from parity.network.trained_layout import TrainedLayout
from parity.processes.references import ModelReference
from parity.processes.requests import RunRequest
from parity.processes.training_requests import TrainerRequest
from parity.runtimes.base import ModelRuntime
from parity.runtimes.floors import TensorHook
from parity.runtimes.framework import ForwardResult
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.torch import checkpoints, guesses, load, references, run, train, weights
from parity.runtimes.torch import device as torch_device
from parity.runtimes.torch import layers as torch_layers
from parity.runtimes.torch.graphs import TorchGraphs
from parity.runtimes.torch.onnx_readings import OnnxFileDispatch
from parity.runtimes.torch.pieces import TorchPieces
from parity.runtimes.torch.repair import TorchRepairs
from parity.runtimes.torch.weights import DTYPES, Array


class Runtime(OnnxFileDispatch, TorchRepairs, TorchPieces, TorchGraphs, ModelRuntime):
    """One PyTorch module: `parity.runtimes.framework.Framework`, and operations of its own.

    Or an ONNX file, whose operations PyTorch computes: see `OnnxFileDispatch`.
    """

    name = "torch"
    model: nn.Module
    _trained: frozenset[str] = frozenset()
    """The parameters of a model with a layout that have a gradient."""

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def pin_flags(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        return torch_device.pin_flags(precision, device)

    def list_devices(self) -> list[str]:
        return torch_device.list_devices()

    def require_device(self, *, device: str) -> dict[str, Any]:
        return torch_device.describe_device(torch_device.find_device(device))

    def release_memory(self) -> None:
        torch_device.release_memory()

    def is_out_of_memory(self, error: Exception) -> bool:
        return torch_device.is_out_of_memory(error)

    def build(self, spec: ModelSpec) -> nn.Module:
        return load.build_twin(spec)

    def build_from_callable(self, callable_path: str) -> nn.Module:
        return load.build_from_callable(callable_path)

    def load_model_reference(
        self,
        reference: ModelReference,
        *,
        trust: Sequence[str],
        custom_objects: str | None,
        seed: int = 0,
    ) -> LoadedModel:
        return references.load_reference(
            reference, trust=trust, custom_objects=custom_objects, seed=seed
        )

    def load_model_checkpoint(self, path: str) -> Sequence[str]:
        return references.load_checkpoint(self.model, path)

    def save_model_checkpoint(self, path: Path) -> None:
        references.save_checkpoint(self.model, path)

    def build_replica(self, dtype: str) -> tuple[nn.Module, Callable[[Mapping[str, Array]], None]]:
        with torch.device("meta"):
            model = copy.deepcopy(self.model).to("meta", dtype=DTYPES[dtype]).eval()
        names = self._weight_names()
        unlisted = weights.unlisted_state(self.model, names)

        def set_weights(values: Mapping[str, Array]) -> None:
            weights.write_weights(
                model, values, names=names, unlisted=unlisted, dtype=DTYPES[dtype], copy=False
            )

        return model, set_weights

    def copy_to_device(self, precision: str, device: str) -> nn.Module:
        dtype = torch_device.DTYPES[precision]
        model = copy.deepcopy(self.model).to(torch_device.find_device(device), dtype)
        return model.eval().requires_grad_(False)

    def find_weights(self, row: Row) -> Iterable[Weight]:
        return weights.find_weights(self.model, row)

    def read_weights(self) -> dict[str, Array]:
        return weights.read_weights(self.model, self.table.select_side(self.name).weights())

    def write_weights(self, values: Mapping[str, Array]) -> None:
        names = self._weight_names()
        # A model may have state that no row of the table lists, and keeps it.
        unlisted = weights.unlisted_state(self.model, names)
        weights.write_weights(self.model, values, names=names, unlisted=unlisted)

    def _weight_names(self) -> set[str]:
        """Return the names of the table's weights that a PyTorch module has."""
        return {weight.name for _, weight in self.table.select_side(self.name).weights()}

    def count_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def describe_layers(self, input_shape: Sequence[int]) -> list[dict[str, Any]]:
        return torch_layers.describe_layers(self.model, self.table, input_shape)

    def parse_checkpoint(
        self, path: Path, table: LayerTable
    ) -> tuple[dict[str, Array], Sequence[str]]:
        return checkpoints.read(path, table)

    def save_checkpoint(self, values: Mapping[str, Array], path: Path) -> None:
        checkpoints.save(values, path, table=self.table, order=self.model.state_dict().keys())

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Run as every model; the modules that the request bypasses return their input."""
        with run.bypass_modules(self.model, RunRequest.from_json(arguments).bypass):
            return super().run(**arguments)

    def forward(
        self,
        x: Array,
        rows: Sequence[Row],
        hook: TensorHook,
        *,
        model: nn.Module | None = None,
        device: str = "cpu",
        xla: bool = False,
    ) -> ForwardResult:
        model = self.model if model is None else model
        return run.forward(model, x, rows, hook)

    def measure_batch_norm_inputs(
        self, model: nn.Module, x: Array
    ) -> Iterable[tuple[Row, Array, Array]]:
        return run.measure_batch_norm_inputs(model, self.table.rows, x)

    def create_trainer(self, request: TrainerRequest) -> train.TorchTrainer:
        self.model.to(torch_device.find_device(request.device))
        return train.TorchTrainer(self.model, request, self._trained_names)

    def bind_layout(self, layout: TrainedLayout) -> None:
        found = {name: tuple(value.shape) for name, value in self.read_parameters().items()}
        for name, shape in layout.weights.items():
            if found.get(name) != shape:
                raise WeightError(
                    f"torch: {name}: expected {shape}, found {found.get(name, 'no such weight')}"
                )
        # What the user's code has frozen stays frozen.
        self._trained = frozenset(n for n, p in self.model.named_parameters() if p.requires_grad)

    @property
    def _trained_names(self) -> frozenset[str] | None:
        return None if self.layout is None else self._trained

    def read_mapped_weights(self) -> dict[str, Array]:
        return self.read_parameters()

    def write_mapped_weights(self, values: dict[str, Array]) -> None:
        self.write_parameters(values)

    def create_observed_trainer(
        self, request: TrainerRequest, dtype: str, device: str
    ) -> train.ObservedTorchTrainer:
        if self.layout is not None:
            copied = self.copy_to_precision(dtype, device)
            return train.ObservedTorchTrainer(
                copied, request, layout=self.layout, trained=self._trained
            )
        model, set_weights = self.build_replica(dtype)
        set_weights(self.read_weights())
        if device != "cpu":
            self.pin_flags("float32", device)
            model.to(torch_device.find_device(device))
        return train.ObservedTorchTrainer(model, request, table=self.table)

    def keep_generators(self) -> AbstractContextManager[None]:
        return torch.random.fork_rng(devices=[])

    def draw_initial_weights(self, seed: int) -> dict[str, Array]:
        assert self.spec is not None
        model = load.build_initialized_twin(self.spec, seed=seed)
        return weights.read_weights(model, self.table.weights())

    def prepare_prediction(self, *, precision: str, device: str) -> torch.nn.Module:
        if (precision, device) == ("float32", "cpu"):
            self.pin_flags(precision, device)
            return self.model
        return self.copy_to_precision(precision, device)

    def compute_outputs(self, prepared: torch.nn.Module, images: Array) -> Array:
        return run.compute_outputs(prepared, images)

    def limit_threads(self, count: int) -> int:
        torch.set_num_threads(count)
        return torch.get_num_threads()

    def run_graph_float64(
        self,
        *,
        graph: str,
        table: dict[str, Any],
        x: str,
        rows: list[str],
        out: str,
        manifest: dict[str, Any],
        feed: str | None = None,
    ) -> dict[str, Any]:
        """Capture the rows of an ONNX graph in float64; see `onnx_run.capture_graph`."""
        from parity.runtimes.torch import onnx_run

        return onnx_run.capture_graph(
            Path(graph),
            LayerTable.from_json(table),
            x=x,
            rows=rows,
            out=Path(out),
            manifest=manifest,
            feed=feed,
        )

    def guess_inputs(
        self, *, shapes: list[list[int]], dtypes: Sequence[str] = (), enough: int = 64
    ) -> dict[str, Any]:
        """Return the dtypes and axis orders of `shapes` that run; see `guesses.guess_inputs`.

        Each is tried as floats and as integers, whatever its dtype is in another model.
        """
        found = guesses.guess_inputs(self.model, shapes, enough=enough)
        return {"candidates": [[each.to_json() for each in guess] for guess in found]}

    def try_image_shapes(self, *, shapes: list[list[int]], enough: int) -> dict[str, Any]:
        """Return those of `shapes` that run; see `guesses.try_image_shapes`."""
        found, error = guesses.try_image_shapes(self.model, shapes, enough=enough)
        return {"shapes": found, "error": error}

    def trace(self, *, opset: int | None, input_shape: Sequence[int], names: dict[str, str]) -> Any:
        from exporters import torch_onnx

        options: dict[str, Any] = {} if opset is None else {"opset": opset}
        return torch_onnx.trace(
            self.model,
            [tuple(input_shape)],
            inputs=["input"],
            outputs=[LOGITS],
            taps=names,
            **options,
        )

    def read_structure_weights(self) -> Mapping[str, Array]:
        from exporters import torch_onnx

        return torch_onnx.weights(self.model)

    def export_onnx(self, path: Path, *, input_shape: Sequence[int], **options: Any) -> Any:
        from exporters import torch_onnx

        return torch_onnx.export(self.model, [tuple(input_shape)], path, **options)
