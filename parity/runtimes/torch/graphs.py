"""PyTorch's modules as graphs: described, recorded, copied, run at the tensors of their graph."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.errors import GraphError
from parity.network.arrays import join_complex, split_complex
from parity.network.graph import Graph
from parity.numerics.npz import load_npz
from parity.processes.graph_requests import ExportRequest
from parity.runtimes.graph_framework import Array, GraphHook, GraphRun, InputSpec
from parity.runtimes.graph_operations import GraphOperations
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.torch import device as torch_device
from parity.runtimes.torch.calls import Call, name_operand
from parity.runtimes.torch.graph_builder import GraphBuilder
from parity.runtimes.torch.model_inputs import (
    bind_inputs,
    forward_parameters,
    name_example,
    prepare_call,
    required_inputs,
)
from parity.runtimes.torch.model_outputs import flatten_outputs
from parity.runtimes.torch.parameters import read_parameters, require_values, write_parameters
from parity.runtimes.torch.recorder import Recorder, call_model
from parity.runtimes.torch.replicas import copy_to_precision, materialise
from parity.runtimes.torch.run import device_and_dtype
from parity.runtimes.torch.source_lines import locate_error
from parity.runtimes.torch.weights import to_numpy


class TorchGraphs(GraphOperations):
    """`GraphFramework` for the one module of a child."""

    model: nn.Module
    example: Mapping[str, Array] | None = None
    """The example inputs that came with the model, by name."""
    loaded_example: Any | None = None
    """The same as the user's code gave it, of any structure."""
    input_shape: tuple[int | None, ...] | None = None
    """The shape of the one input, where the model's origin states it."""
    input_dtype: str = "float32"
    _shared: frozenset[str] | None = None
    """`find_shared` of the model; None before its first run."""

    def keep_example(self, loaded: LoadedModel) -> None:
        self._shared, self.example = None, None
        self.input_shape, self.input_dtype = loaded.input_shape, loaded.input_dtype
        if loaded.example is not None:
            self.use_example(loaded.example)

    def describe_inputs(self) -> list[InputSpec]:
        if self.example is not None:
            return [
                InputSpec(name, tuple(array.shape), str(array.dtype), "example")
                for name, array in self.example.items()
            ]
        names = required_inputs(self.model)
        if self.input_shape is not None and len(names) == 1:
            return [InputSpec(names[0], self.input_shape, self.input_dtype, "declared")]
        return [InputSpec(name, None, "", "unknown") for name in names]

    def example_inputs(self) -> dict[str, Array] | None:
        return None if self.example is None else dict(self.example)

    def use_example(self, example: Any) -> None:
        """Keep the example inputs that came with the model: a tensor, several, or by name.

        Raises `UsageError` for anything else.
        """
        self.example = name_example(self.model, example)

    def record(self, inputs: Mapping[str, Array]) -> Graph:
        torch_device.pin_flags("float32", "cpu")
        graph, self._shared = record_with_shared(self.model, inputs)
        return graph

    def describe_record(self) -> Any:
        return None if self._shared is None else sorted(self._shared)

    def restore_record(self, inputs: Mapping[str, Array], record: Any) -> None:
        self._shared = None if record is None else frozenset(record)

    def run_tensors(
        self,
        inputs: Mapping[str, Array],
        tensors: Collection[str],
        hook: GraphHook,
        *,
        model: nn.Module | None = None,
        device: str = "cpu",
    ) -> GraphRun:
        if model is None:
            torch_device.pin_flags("float32", "cpu")
            model = self.model
            require_values(model)
        if self._shared is None:
            self._shared = find_shared(model, inputs)
        return run_tensors(model, inputs, tensors, hook, shared=self._shared)

    def copy_to_precision(self, precision: str, device: str = "cpu") -> nn.Module:
        torch_device.pin_flags(precision, device)
        return copy_to_precision(self.model, precision, torch_device.find_device(device))

    def trace_export(self, inputs: str, opset: int | None) -> Any:
        from exporters import torch_onnx

        ordered, tensors = bind_inputs(self.model, load_npz(inputs))
        options: dict[str, Any] = {} if opset is None else {"opset": opset}
        example = tuple(tensors[name] for name in ordered)
        return torch_onnx.trace(self.model, example, inputs=ordered, **options)

    def read_export_weights(self) -> Mapping[str, Any]:
        from exporters import torch_onnx

        return torch_onnx.weights(self.model)

    def export_file(self, request: ExportRequest) -> Any:
        from exporters import torch_onnx

        example = self.loaded_example
        if request.inputs is not None:
            ordered, tensors = bind_inputs(self.model, load_npz(request.inputs))
            example = {name: tensors[name] for name in ordered}
            if ordered == [p.name for p in forward_parameters(self.model)][: len(ordered)]:
                example = tuple(example.values())
        elif isinstance(example, torch.Tensor | np.ndarray):
            example = (example,)
        return torch_onnx.export(
            self.model,
            example,
            Path(request.path),
            dynamic=_name_axes(request),
            **request.exporter_options(),
        )

    def read_parameters(self, *, model: nn.Module | None = None) -> dict[str, Array]:
        return read_parameters(self.model if model is None else model)

    def write_parameters(
        self, values: Mapping[str, Array], *, model: nn.Module | None = None
    ) -> None:
        write_parameters(self.model if model is None else model, values)


def _name_axes(request: ExportRequest) -> dict[str, dict[int, str]]:
    """Return the sizes that vary, by input and axis.

    The user's are added to the batch on axis 0, unless another axis of the input is the batch.
    """
    named = {}
    for name, axes in request.dynamic.items():
        sizes = {axis: size or f"{name}_{axis}" for axis, size in axes.items()}
        if 0 in axes and not axes[0]:
            sizes[0] = _BATCH
        if not request.fixed_batch and _BATCH not in sizes.values():
            sizes.setdefault(0, _BATCH)
        named[name] = sizes
    return named


_BATCH = "batch"
"""The exporter's name of the size that counts samples."""


def record(model: nn.Module, inputs: Mapping[str, Array]) -> Graph:
    """Run a model once, in inference mode, and return the graph of what it computed."""
    return record_with_shared(model, inputs)[0]


def record_with_shared(
    model: nn.Module, inputs: Mapping[str, Array]
) -> tuple[Graph, frozenset[str]]:
    """Run a model once, in inference mode; return the graph, and what `find_shared` does.

    Raises `InputError` where the names of the inputs do not fit, and `GraphError` where the model
    raises; its notes then say how far it came.
    """
    run = materialise(model)
    builder = GraphBuilder(model, run)
    precision = _find_precision(run, inputs)
    recorder = Recorder(run, observe=builder.add, widen=precision == torch.float64)
    args, kwargs, tensors, ids = prepare_call(run, recorder, inputs)
    for name, tensor in tensors.items():
        builder.add_input(name, ids[name], tensor)
    with _default_dtype(precision), _explain_errors(run, builder.describe_progress):
        output = call_model(recorder, run, args, kwargs)
    return builder.finish(recorder, output), frozenset(recorder.shared)


def _find_precision(model: nn.Module, inputs: Mapping[str, Array]) -> torch.dtype:
    """Return the floating dtype of the weights; of the inputs where there are no weights."""
    dtype = device_and_dtype(model)[1]
    if dtype is not None:
        return dtype
    wide = any(np.asarray(array).dtype == np.float64 for array in inputs.values())
    return torch.float64 if wide else torch.float32


@contextmanager
def _default_dtype(precision: torch.dtype) -> Iterator[None]:
    """While open, tensors that a float64 model makes without a dtype are float64."""
    before = torch.get_default_dtype()
    if precision == torch.float64:
        torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _explain_errors(model: nn.Module, progress: Any) -> Iterator[None]:
    """Raise `GraphError` in the place of an error of the model, with its line."""
    try:
        yield
    except GraphError:
        raise
    except Exception as error:
        if torch_device.is_out_of_memory(error):
            raise
        where = locate_error(model, error)
        reason = " ".join(str(error).split())[:300]
        failure = GraphError(
            f"{where or 'the model'}: {type(error).__name__}: {reason}; "
            "do the inputs' shapes and dtypes fit the model?"
        )
        for line in progress():
            failure.add_note(line)
        raise failure from error


def find_shared(model: nn.Module, inputs: Mapping[str, Array]) -> frozenset[str]:
    """Run once; return the tensors that see a later change in place of another's memory."""
    precision = _find_precision(model, inputs)
    recorder = Recorder(model, widen=precision == torch.float64)
    with _default_dtype(precision), _explain_errors(model, list):
        args, kwargs, _, _ = prepare_call(model, recorder, inputs)
        call_model(recorder, model, args, kwargs)
    return frozenset(recorder.shared)


def run_tensors(
    model: nn.Module,
    inputs: Mapping[str, Array],
    tensors: Collection[str],
    hook: GraphHook,
    *,
    shared: Collection[str] = (),
) -> GraphRun:
    """Run once and give each of `tensors` to `hook` when it is computed.

    `shared` is `find_shared`'s; it matters where `hook` replaces tensors. Raises `GraphError` for
    a tensor that this run did not compute.
    """
    wanted, seen = set(tensors), set()

    def replace(found: str, tensor: torch.Tensor) -> torch.Tensor | None:
        if found not in wanted:
            return None
        seen.add(found)
        # A copy: a later operation may work in place.
        array = hook(found, np.array(split_complex(to_numpy(tensor))))
        if array is None:
            return None
        if tensor.is_complex():
            array = join_complex(array)
        return torch.from_numpy(np.ascontiguousarray(array)).to(tensor).reshape(tensor.shape)

    device, _ = device_and_dtype(model)
    precision = _find_precision(model, inputs)
    widen = precision == torch.float64

    def read_operands(call: Call) -> None:
        for index, operand in enumerate(call.operands):
            found = name_operand(call.number, index)
            if found in wanted:
                seen.add(found)
                array = np.array(split_complex(to_numpy(operand.tensor)))
                hook(
                    found, array.astype(np.float64) if widen and array.dtype.kind == "f" else array
                )

    observe = read_operands if any("<" in found for found in wanted) else None
    recorder = Recorder(model, observe=observe, replace=replace, widen=widen, shared=shared)
    with _default_dtype(precision), _explain_errors(model, list):
        args, kwargs, _, _ = prepare_call(model, recorder, inputs)
        torch_device.synchronize(device)
        started = time.perf_counter()
        output = call_model(recorder, model, args, kwargs)
        torch_device.synchronize(device)
        seconds = time.perf_counter() - started
    found = flatten_outputs(output)
    for name, tensor in found.items():
        if not recorder.find_id(tensor):
            replace(f"free.{name}", tensor)
    missing = sorted(found for found in wanted - seen if "<" not in found)
    if missing:
        raise GraphError(
            f"this run did not compute {len(missing)} of {len(wanted)} tensors, the first is "
            f"{missing[0]!r}: the model took another path than when it was read"
        )
    last = next(reversed(found.values()), None)
    return GraphRun(seconds, str(device if last is None else last.device))
