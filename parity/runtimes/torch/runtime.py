"""PyTorch: build or call a module, copy weights, capture tensors by hooks, export."""

from __future__ import annotations

import copy
import importlib
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.errors import TableError, UsageError, WeightError
from parity.network import callables, checkpoint_fit, kinds, layouts, weights
from parity.network.spec import ModelSpec
from parity.network.table import (
    LOGITS,
    LayerTable,
    Row,
    Weight,
    canonical_name,
    parse_torch_point,
)
from parity.numerics import capture
from parity.processes.requests import RunRequest
from parity.runtimes.base import Array, ModelRuntime, read_input
from parity.runtimes.floors import Sink, fed
from parity.runtimes.torch import device as torch_device
from parity.runtimes.torch import layers as torch_layers

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Runtime(ModelRuntime):
    """The child process's PyTorch operations."""

    name = "torch"
    model: nn.Module

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def pin(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        return torch_device.pin(precision, device)

    def placed(self, precision: str, device: str) -> nn.Module:
        place = torch_device.place(device)
        model = copy.deepcopy(self.model).to(place, torch_device.DTYPES[precision])
        return model.eval().requires_grad_(False)

    def release(self) -> None:
        torch_device.release()

    def is_out_of_memory(self, error: Exception) -> bool:
        return torch_device.is_out_of_memory(error)

    def devices(self) -> list[str]:
        return torch_device.devices()

    def require(self, *, device: str) -> dict[str, Any]:
        return torch_device.facts(torch_device.place(device))

    def build(self, spec: ModelSpec) -> nn.Module:
        module = importlib.import_module(f"parity.network.models.{spec.family}.torch")
        # On the meta device no weight is drawn that would be overwritten at once.
        with torch.device("meta"):
            model: nn.Module = module.build(spec)
        return model.eval()

    def call_reference(self, reference: str) -> nn.Module:
        model = callables.call(reference)
        if not isinstance(model, nn.Module):
            raise UsageError(
                f"'{reference}': expected a torch.nn.Module, found {type(model).__name__}"
            )
        return model.eval()

    def read_weights(self) -> dict[str, Array]:
        state = self.model.state_dict()
        return {
            weight.name: _numpy(_found(state, row, weight)).astype(np.float32)
            for row, weight in self.table.select_side(self.name).weights()
        }

    def write_weights(self, values: Mapping[str, Array]) -> None:
        held = {weight.name for _, weight in self.table.select_side(self.name).weights()}
        told = {name: value for name, value in values.items() if name in held}
        # A model may hold what no row of the table speaks of, and keeps it.
        set_weights(self.model, {**_untold(self.model, held), **told})

    def weights_of(self, row: Row) -> Iterable[Weight]:
        return weights_of(self.model, row)

    def replica(self, dtype: str) -> tuple[nn.Module, Callable[[Mapping[str, Array]], None]]:
        with torch.device("meta"):
            model = copy.deepcopy(self.model).to("meta", dtype=DTYPES[dtype]).eval()
        held = {weight.name for _, weight in self.table.select_side(self.name).weights()}
        untold = _untold(self.model, held)

        def assign(values: Mapping[str, Array]) -> None:
            told = {name: value for name, value in values.items() if name in held}
            set_weights(model, {**untold, **told}, dtype=DTYPES[dtype])

        return model, assign

    def forward(
        self,
        x: Array,
        rows: Sequence[Row],
        sink: Sink,
        *,
        model: nn.Module | None = None,
        device: str = "cpu",
        xla: bool = False,
    ) -> float:
        model = self.model if model is None else model
        place, dtype = _placed(model)
        with torch.inference_mode(), hooked(model, rows, sink):
            tensor = torch.from_numpy(np.ascontiguousarray(x)).to(place, dtype)
            torch_device.wait(place)
            started = time.perf_counter()
            output = model(tensor)
            torch_device.wait(place)
            seconds = time.perf_counter() - started
        self.where = str(output.device) if isinstance(output, torch.Tensor) else str(place)
        return seconds

    def statistics(self, model: nn.Module, x: Array) -> Iterable[tuple[Row, Array, Array]]:
        rows = {
            parse_torch_point(r.torch).module: r for r in self.table.rows if r.kind == "batch_norm"
        }
        found: list[tuple[Row, Array, Array]] = []

        def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...], row: Row) -> None:
            variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
            found.append((row, mean.numpy(), variance.numpy()))

        handles = []
        for path, row in rows.items():
            layer = model.get_submodule(path).train()
            handles.append(
                layer.register_forward_pre_hook(
                    lambda module, inputs, row=row: measure(module, inputs, row)
                )
            )
        with torch.inference_mode():
            model(torch.from_numpy(x))
        for handle in handles:
            handle.remove()
        return found

    def checkpoint(self, path: Path, table: LayerTable) -> tuple[dict[str, Array], Sequence[str]]:
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise WeightError(
                f"{path}: cannot be read as a PyTorch checkpoint: {reason}"
            ) from error
        except pickle.UnpicklingError as error:
            raise WeightError(
                f"{path}: refused: it holds more than tensors, and could run code; "
                "save model.state_dict() and nothing else"
            ) from error
        state, notes = weights.unwrap_state_dict(held, source=str(path))
        return {name: _tensor(value, f"{path}: {name}") for name, value in state.items()}, notes

    def save_checkpoint(self, values: Mapping[str, Array], path: Path) -> None:
        counters = {
            name: torch.zeros((), dtype=torch.int64)
            for name in checkpoint_fit.batch_counters(self.table)
        }
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
        order = self.model.state_dict().keys()
        known = {**counters, **tensors}
        torch.save({name: known[name] for name in order}, path)

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def layers(self, input_shape: Sequence[int]) -> list[dict[str, Any]]:
        return torch_layers.describe(self.model, self.table, input_shape)

    def run(self, **arguments: Any) -> dict[str, Any]:
        """As of every model; each module that the request bypasses gives its input back."""
        handles = [
            _submodule(self.model, path).register_forward_hook(lambda module, args, made: args[0])
            for path in RunRequest.from_json(arguments).bypass
        ]
        try:
            return super().run(**arguments)
        finally:
            for handle in handles:
                handle.remove()

    def run_graph(
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
        """Capture the rows of an ONNX graph that is read into PyTorch and run in float64.

        `feed` is the reference's capture, as in `run`. "fallbacks" in the answer are the operators
        that onnx.reference evaluated instead.
        """
        import onnx

        from parity.runtimes.torch import onnx_evaluator

        layer_table = LayerTable.from_json(table)
        names = {layer_table.tensor_name(layer_table.by_name(name)): name for name in rows}
        model = onnx.load(graph)
        data = read_input(x).astype(np.float64)
        fallbacks: set[str] = set()
        started = time.perf_counter()
        with capture.CaptureWriter(Path(out), manifest) as writer, fed(feed) as replacement:
            instead: dict[str, Array] = {}

            def sink(tensor: str, array: Array) -> None:
                row = layer_table.by_name(names[tensor])
                rank = len(row.shape) + 1
                made = layouts.drop_axes(array, rank) if row.shape else array
                writer.add(row.name, made)
                given = replacement(row, made)
                if given is not None:
                    instead[tensor] = given.reshape(array.shape).astype(np.float64)

            onnx_evaluator.evaluate(
                model,
                {model.graph.input[0].name: data},
                sink=sink,
                wanted=list(names),
                replace=instead.get,
                on_fallback=lambda operator, node: fallbacks.add(operator),
            )
        return {"seconds": time.perf_counter() - started, "fallbacks": sorted(fallbacks)}

    def trace(self, *, opset: int | None, input_shape: Sequence[int], names: dict[str, str]) -> Any:
        from exporters import torch_onnx

        options: dict[str, Any] = {} if opset is None else {"opset": opset}
        return torch_onnx.trace(
            self.model, [tuple(input_shape)], outputs=[LOGITS], taps=names, **options
        )

    def placeholders(self) -> Mapping[str, Array]:
        from exporters import torch_onnx

        return torch_onnx.weights(self.model)

    def export_to(self, path: Path, *, input_shape: Sequence[int], **options: Any) -> Any:
        from exporters import torch_onnx

        return torch_onnx.export(self.model, [tuple(input_shape)], path, **options)


def set_weights(
    model: nn.Module, values: Mapping[str, Array], *, dtype: torch.dtype = torch.float32
) -> None:
    """Replace every parameter and buffer of `model`; batch counters, which no inference reads,
    become 0."""
    state = model.state_dict()
    tensors = {name: torch.from_numpy(np.array(value)).to(dtype) for name, value in values.items()}
    for name in state:
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, torch.zeros((), dtype=torch.int64))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.requires_grad_(False)
    held = model.state_dict()
    for name, tensor in tensors.items():
        bits = {4: torch.int32, 8: torch.int64}[tensor.element_size()]
        if not torch.equal(held[name].view(bits), tensor.view(bits)):
            raise WeightError(f"{name}: PyTorch holds other bits than it was given")


def _placed(model: nn.Module) -> tuple[torch.device, torch.dtype | None]:
    """Where a model's numbers are, and their type; None for a model that has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), None


def _untold(model: nn.Module, told: set[str]) -> dict[str, Array]:
    """The state that no table row speaks of: a user's own model may have some."""
    return {
        name: _numpy(tensor)
        for name, tensor in model.state_dict().items()
        if name not in told and not name.endswith("num_batches_tracked") and not tensor.is_meta
    }


@contextmanager
def hooked(model: nn.Module, rows: Sequence[Row], sink: Sink) -> Iterator[None]:
    """While open, every forward pass hands the tensors of `rows` to `sink`, as they are made.

    A tensor is read inside the hook: a later operation in place cannot change what is captured.
    Raises `TableError` for a module that is not there, or a call that never came.
    """
    wanted: dict[str, dict[tuple[int, bool], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        point = parse_torch_point(row.torch)
        wanted[point.module][point.call, point.is_input].append(row)
    calls: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    handles = []

    def take(path: str, is_input: bool, tensor: Any) -> torch.Tensor | None:
        fed = None
        for row in wanted[path].get((calls[path], is_input), ()):
            seen.add(row.name)
            instead = sink(row, canonical(tensor, row))
            if instead is not None:
                fed = torch.from_numpy(np.ascontiguousarray(instead)).to(tensor)
                # A row leaves out trailing axes of length 1. Whatever else the module's shape is,
                # those behind it are given the reference's.
                fed = fed.reshape(fed.shape + (1,) * (tensor.ndim - fed.ndim))
        return fed

    def before(module: nn.Module, args: tuple[Any, ...], path: str) -> Any:
        fed = take(path, True, args[0] if args else None)
        return None if fed is None else (fed, *args[1:])

    def after(module: nn.Module, args: tuple[Any, ...], output: Any, path: str) -> Any:
        fed = take(path, False, output)
        calls[path] += 1
        return fed

    for path in wanted:
        module = _submodule(model, path)
        handles.append(module.register_forward_pre_hook(lambda m, a, path=path: before(m, a, path)))
        handles.append(
            module.register_forward_hook(lambda m, a, o, path=path: after(m, a, o, path))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    missing = [row for row in rows if row.name not in seen]
    if missing:
        raise TableError(f"{missing[0].name}: the PyTorch model never came to '{missing[0].torch}'")


def canonical(tensor: Any, row: Row) -> Array:
    """A layer's tensor as NumPy holds it, without the axes of length 1 that its row leaves out."""
    if not isinstance(tensor, torch.Tensor):
        raise TableError(
            f"{row.name}: '{row.torch}' gives a {type(tensor).__name__}, not one tensor"
        )
    array = _numpy(tensor)
    return layouts.drop_axes(array, len(row.shape) + 1) if row.shape else array


def _tensor(value: Any, where: str) -> Array:
    if not isinstance(value, torch.Tensor):
        raise WeightError(f"{where}: expected a tensor, found a {type(value).__name__}")
    return _numpy(value)


def weights_of(model: nn.Module, row: Row) -> Iterator[Weight]:
    """The weights of a row's module; a sum that no module owns has none."""
    if not row.torch or parse_torch_point(row.torch).is_input:
        return
    module = _submodule(model, parse_torch_point(row.torch).module)
    held: dict[str, Any] = dict(module.named_parameters(recurse=False))
    held.update(module.named_buffers(recurse=False))
    for role in kinds.get(row.kind).roles:
        tensor = held.get(role.torch)
        if tensor is not None:
            yield Weight(role.name, canonical_name(row, role.name), role.keras, tuple(tensor.shape))


def _submodule(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise TableError(f"the PyTorch model has no module '{path}'") from error


def _found(state: Mapping[str, torch.Tensor], row: Row, weight: Weight) -> torch.Tensor:
    if weight.name not in state:
        path = parse_torch_point(row.torch).module
        beside = [name for name in state if name.startswith(f"{path}.")]
        raise TableError(
            f"{row.name}/{weight.role}: the PyTorch model has no '{weight.name}'; "
            f"it has {checkpoint_fit.join_first(beside) or f'no weights in {path!r}'}"
        )
    return state[weight.name]


def _numpy(tensor: torch.Tensor) -> Array:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: Array = tensor.cpu().contiguous().numpy()
    return array
