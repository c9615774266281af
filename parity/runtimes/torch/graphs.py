"""PyTorch's modules as graphs: described, recorded, copied, run at the tensors of their graph."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.errors import FlagError, GraphError, InputError, UsageError, WeightError
from parity.network import kinds
from parity.network.graph import OPAQUE, Graph, Node, Parameter, Port, Tensor
from parity.network.moments import moments_of
from parity.numerics.array_files import load_arrays
from parity.processes.graph_requests import ExportRequest
from parity.runtimes.export import convert_export_errors, write_graph
from parity.runtimes.graph_framework import Array, GraphHook, GraphRun, InputSpec
from parity.runtimes.graph_operations import GraphOperations
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.torch import device as torch_device
from parity.runtimes.torch import operations
from parity.runtimes.torch.recorder import (
    Call,
    Operand,
    Recorder,
    call_model,
    locate_error,
    named_weights,
)
from parity.runtimes.torch.run import device_and_dtype
from parity.runtimes.torch.weights import to_numpy

MAX_CONSTANT = 1024
"""Constants of as many values are a part of the graph; of longer ones it has the shape."""


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
            _require_values(model)
        if self._shared is None:
            self._shared = find_shared(model, inputs)
        return run_tensors(model, inputs, tensors, hook, shared=self._shared)

    def copy_to_precision(self, precision: str, device: str = "cpu") -> nn.Module:
        torch_device.pin_flags(precision, device)
        return copy_to_precision(self.model, precision, torch_device.find_device(device))

    def export_graph(self, *, path: str, inputs: str, opset: int | None = None) -> None:
        from exporters import torch_onnx

        ordered, tensors = _bind_inputs(self.model, load_arrays(inputs))
        options: dict[str, Any] = {} if opset is None else {"opset": opset}
        example = tuple(tensors[name] for name in ordered)
        with convert_export_errors("torch"):
            structure = torch_onnx.trace(self.model, example, inputs=ordered, **options)
            write_graph(structure, torch_onnx.weights(self.model), Path(path))

    def export_file(self, request: ExportRequest) -> Any:
        from exporters import torch_onnx

        example = self.loaded_example
        if request.inputs is not None:
            ordered, tensors = _bind_inputs(self.model, load_arrays(request.inputs))
            example = {name: tensors[name] for name in ordered}
            if ordered == [p.name for p in _forward_parameters(self.model)][: len(ordered)]:
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


# Inputs ------------------------------------------------------------------------------------------


def required_inputs(model: nn.Module) -> list[str]:
    """Return the names of the arguments of `forward` that have no default."""
    return [
        parameter.name
        for parameter in _forward_parameters(model)
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]


def _forward_parameters(model: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        # TorchScript's have no signature that Python can read.
        return [inspect.Parameter("input", inspect.Parameter.POSITIONAL_OR_KEYWORD)]


def name_example(model: nn.Module, example: Any) -> dict[str, Array]:
    """Return example inputs by the names of `forward`'s arguments; raises `UsageError`."""
    if isinstance(example, Mapping):
        named = dict(example)
    else:
        values = example if isinstance(example, tuple | list) else (example,)
        names = [p.name for p in _forward_parameters(model) if p.kind is not p.VAR_POSITIONAL]
        names += [f"input_{index}" for index in range(len(names), len(values))]
        named = dict(zip(names, values, strict=False))
    found = {}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor | np.ndarray):
            raise UsageError(
                f"the example input {name!r} is a {type(value).__name__}: "
                "expected a tensor or an array"
            )
        found[name] = to_numpy(value) if isinstance(value, torch.Tensor) else value
    return found


def _bind_inputs(
    model: nn.Module, inputs: Mapping[str, Array]
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Return the inputs as tensors in the order of `forward`'s arguments, and those by position.

    Raises `InputError` for a name that is unknown or missing.
    """
    parameters = _forward_parameters(model)
    takes_any = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    expected = ", ".join(names) or "any"
    for name in inputs:
        if name not in names and not takes_any:
            raise InputError(f"the model has no input {name!r}; it takes {expected}")
    for name in required_inputs(model):
        if name in names and name not in inputs:
            raise InputError(f"the model's input {name!r} is missing; it takes {expected}")
    device, dtype = device_and_dtype(model)
    ordered = [name for name in names if name in inputs]
    ordered += [name for name in inputs if name not in ordered]
    tensors = {}
    for name in ordered:
        array = np.array(inputs[name])
        tensor = torch.from_numpy(array)
        wanted = dtype if tensor.is_floating_point() else None
        tensors[name] = tensor.to(device, wanted)
    return ordered, tensors


def prepare_inputs(
    model: nn.Module, recorder: Recorder, inputs: Mapping[str, Array]
) -> tuple[list[Any], dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    """Return the arguments of `forward`, the tensors and the ids of the inputs by name."""
    ordered, tensors = _bind_inputs(model, inputs)
    ids: dict[str, str] = {}
    for index, name in enumerate(ordered):
        ids[name], tensors[name] = recorder.add_input(index, tensors[name])
    names = {p.name for p in _forward_parameters(model) if p.kind is not p.VAR_POSITIONAL}
    positional = {
        p.name
        for p in _forward_parameters(model)
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    }
    by_position = [p for p in _forward_parameters(model) if p.kind is p.VAR_POSITIONAL]
    args, kwargs, skipped = [], {}, False
    for parameter in _forward_parameters(model):
        if parameter.name in positional and parameter.name in tensors and not skipped:
            args.append(tensors[parameter.name])
        elif parameter.name in tensors:
            kwargs[parameter.name] = tensors[parameter.name]
        elif parameter.name in positional:
            skipped = True
    rest = [name for name in ordered if name not in names]
    if by_position and not skipped:
        args += [tensors[name] for name in rest]
    else:
        kwargs.update({name: tensors[name] for name in rest})
    return args, kwargs, tensors, ids


# Recording ---------------------------------------------------------------------------------------


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
    builder = _GraphBuilder(model, run)
    precision = _find_precision(run, inputs)
    recorder = Recorder(run, observe=builder.add, widen=precision == torch.float64)
    args, kwargs, tensors, ids = prepare_inputs(run, recorder, inputs)
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


class _GraphBuilder:
    """Makes nodes of calls."""

    def __init__(self, model: nn.Module, run: nn.Module) -> None:
        """`model` holds the weights, `run` is the model that runs: another one for a twin."""
        self._state = dict(named_weights(model))
        self._nodes: list[Node] = []
        self._tensors: dict[str, Tensor] = {}
        self._inputs: list[Port] = []
        self._parameters: dict[str, Parameter] = {}
        self._notes: list[str] = []

    def add_input(self, name: str, found: str, tensor: torch.Tensor) -> None:
        """Add an input of the model."""
        self._inputs.append(Port(name, found))
        self._describe_tensor(found, tensor, "")

    def add(self, call: Call) -> None:
        """Add a call as a node."""
        first = next((operand.id for operand in call.operands if operand.id), "")
        axes = self._axes(first)
        operation = self._describe(call, axes)
        inputs = [each.id for each in operation.operands if isinstance(each, Operand) and each.id]
        inputs += [o.id for o in call.operands if o.id and o.id not in inputs]
        for found, tensor in call.outputs.items():
            self._describe_tensor(found, tensor, self._output_axes(operation, found, tensor))
        self._state_input_axes(operation)
        self._nodes.append(
            Node(
                id=str(call.number),
                kind=operation.kind,
                operation=call.name,
                inputs=tuple(inputs),
                outputs=tuple(call.outputs),
                parameters=tuple(self._read_weights(operation, call)),
                hyper={} if operation.kind == OPAQUE else operation.hyper,
                path=call.path,
                source=call.source,
                constants=_constants(operation),
            )
        )

    def _describe(self, call: Call, axes: str) -> operations.Operation:
        """Return what a call is; one whose arguments are not as expected is opaque, with a note."""
        try:
            return operations.complete(operations.describe(call, axes=axes), call, axes)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            self._notes.append(f"{call.path}: {call.name} ({call.source}) was not read: {reason}")
            return operations.Operation(OPAQUE)

    def _axes(self, found: str) -> str:
        tensor = self._tensors.get(found)
        return "" if tensor is None else tensor.axes

    def _output_axes(
        self, operation: operations.Operation, found: str, tensor: torch.Tensor
    ) -> str:
        axes = operation.axes
        if operation.keeps_axes:
            ids = [o.id for o in operation.operands if isinstance(o, Operand) and o.id]
            known = (self._axes(each) for each in ids)
            fitting = (a for a in known if len(operations.split_axes(a)) == tensor.ndim)
            axes = next((a for a in fitting if a), "")
        return axes if len(operations.split_axes(axes)) == tensor.ndim else ""

    def _state_input_axes(self, operation: operations.Operation) -> None:
        """Name the axes of a tensor whose maker did not state them, by what reads it."""
        if not operation.input_axes:
            return
        data = operation.operands[0]
        tensor = self._tensors.get(data.id)
        if tensor is None or tensor.axes:
            return
        if len(operations.split_axes(operation.input_axes)) == len(tensor.shape):
            self._tensors[data.id] = dataclasses.replace(tensor, axes=operation.input_axes)

    def _describe_tensor(self, found: str, tensor: torch.Tensor, axes: str) -> None:
        dtype = str(tensor.dtype).removeprefix("torch.")
        self._tensors[found] = Tensor(found, tuple(tensor.shape), dtype, axes)

    def _read_weights(self, operation: operations.Operation, call: Call) -> Iterator[Parameter]:
        """Yield the weights of a call, each once: those with a role first."""
        seen: set[str] = set()
        kind = kinds.find(operation.kind)
        for role, operand in operation.weights.items():
            if operand.weights is None:
                continue
            names = [name for name in operand.weights.names if name not in seen]
            # Of several weights that make one, that of its shape has the role.
            shape = tuple(operand.tensor.shape)
            main = next((n for n in names if tuple(self._state[n].shape) == shape), None)
            main = main if main is not None else next(iter(names), None)
            for name in names:
                seen.add(name)
                axes = ""
                if name == main and kind is not None and operand.weights.order is not None:
                    axes = _weight_axes(kind.role(role).axes, operand.weights.order)
                yield self._describe_weight(name, role if name == main else "", axes)
        for operand in call.operands:
            for name in operand.weights.names if operand.weights is not None else ():
                if name not in seen:
                    seen.add(name)
                    yield self._describe_weight(name, "", "")

    def _describe_weight(self, name: str, role: str, axes: str) -> Parameter:
        known = self._parameters.get(name)
        if known is None:
            known = self._parameters[name] = describe_parameter(name, self._state[name])
        return dataclasses.replace(known, role=role, axes=axes)

    def describe_progress(self) -> list[str]:
        """Return what ran so far: the last operations, for the notes of an error."""
        lines = [f"{len(self._nodes)} operations ran before"]
        for node in self._nodes[-3:]:
            shapes = ", ".join(str(self._tensors[each].shape) for each in node.outputs)
            lines.append(f"{node.source} {node.path}: {node.operation} gave {shapes}")
        return lines

    def finish(self, recorder: Recorder, output: Any) -> Graph:
        """Return the graph, with the outputs of the model."""
        ports = []
        for name, tensor in flatten_outputs(output).items():
            found = recorder.find_id(tensor)
            if not found:
                found = self._add_free_output(name, recorder.describe(tensor))
            ports.append(Port(name, found))
        if not ports:
            raise GraphError("the model returns no tensor")
        read = {each.name for node in self._nodes for each in node.parameters}
        unused = [
            describe_parameter(name, tensor)
            for name, tensor in self._state.items()
            if name not in read
        ]
        notes = [*recorder.notes.lines, *self._notes]
        notes += [
            f"{node.path or node.operation}: {node.operation} ({node.source}) has no kind, and is "
            "compared at its outputs"
            for node in self._nodes
            if node.kind == OPAQUE
        ]
        return Graph(
            "torch", tuple(self._nodes), self._tensors, tuple(self._inputs), tuple(ports),
            tuple(unused), tuple(dict.fromkeys(notes)),
        )  # fmt: skip

    def _add_free_output(self, name: str, operand: Operand) -> str:
        """Add a node for an output that depends on no input."""
        found = f"free.{name}"
        names = operand.weights.names if operand.weights is not None else ()
        self._describe_tensor(found, operand.tensor, "")
        weights = tuple(self._describe_weight(each, "", "") for each in names)
        self._nodes.append(Node(found, OPAQUE, "constant", (), (found,), weights))
        return found


def _constants(operation: operations.Operation) -> dict[str, Any]:
    """Return the numbers and constants among the operands, by position."""
    found: dict[str, Any] = {}
    for index, operand in enumerate(operation.operands):
        if isinstance(operand, bool | int | float):
            found[str(index)] = operand
        elif isinstance(operand, Operand) and operand.weights is not None:
            # Where a kind has no role for it, its position says what it is.
            shape = list(operand.tensor.shape)
            found[str(index)] = {"parameter": operand.weights.names[0], "shape": shape}
        elif isinstance(operand, Operand) and operand.is_constant:
            tensor = operand.tensor
            if tensor.numel() <= MAX_CONSTANT and not tensor.is_complex():
                found[str(index)] = tensor.tolist()
            else:
                dtype = str(tensor.dtype).removeprefix("torch.")
                found[str(index)] = {"shape": list(tensor.shape), "dtype": dtype}
    return found


@functools.cache
def _weight_axes(canonical: str, order: tuple[int, ...]) -> str:
    """Return the axes of a weight that is read with its axes in `order`; empty for canonical."""
    if order == tuple(range(len(order))):
        return ""
    names = operations.split_axes(canonical)
    if len(names) != len(order):
        return ""
    found = [""] * len(order)
    for name, axis in zip(names, order, strict=True):
        found[axis] = name
    return " ".join(found)


def flatten_outputs(output: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a model's output by name.

    One tensor is `output`; those of a tuple are `output_0`, `output_1`; a dict's and a dataclass's
    have its keys; what is nested is joined by a dot.
    """
    if isinstance(output, torch.Tensor):
        return {"output": output}
    found: dict[str, torch.Tensor] = {}
    for key, value in _items(output):
        if isinstance(value, torch.Tensor):
            found[key] = value
        else:
            found.update({f"{key}.{name}": each for name, each in flatten_nested(value).items()})
    return found


def flatten_nested(value: Any) -> dict[str, torch.Tensor]:
    """Return the tensors inside a nested output by their names in it."""
    found: dict[str, torch.Tensor] = {}
    for key, each in _items(value):
        label = key.removeprefix("output_")
        if isinstance(each, torch.Tensor):
            found[label] = each
        else:
            found.update({f"{label}.{n}": tensor for n, tensor in flatten_nested(each).items()})
    return found


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), each) for key, each in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, tuple | list):
        return [(f"output_{index}", each) for index, each in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return []


# Running -----------------------------------------------------------------------------------------


def find_shared(model: nn.Module, inputs: Mapping[str, Array]) -> frozenset[str]:
    """Run once; return the tensors that see a later change in place of another's memory."""
    precision = _find_precision(model, inputs)
    recorder = Recorder(model, widen=precision == torch.float64)
    with _default_dtype(precision), _explain_errors(model, list):
        args, kwargs, _, _ = prepare_inputs(model, recorder, inputs)
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
        array = hook(found, np.array(to_numpy(tensor)))
        if array is None:
            return None
        return torch.from_numpy(np.ascontiguousarray(array)).to(tensor).reshape(tensor.shape)

    device, _ = device_and_dtype(model)
    precision = _find_precision(model, inputs)
    widen = precision == torch.float64
    recorder = Recorder(model, replace=replace, widen=widen, shared=shared)
    with _default_dtype(precision), _explain_errors(model, list):
        args, kwargs, _, _ = prepare_inputs(model, recorder, inputs)
        torch_device.synchronize(device)
        started = time.perf_counter()
        output = call_model(recorder, model, args, kwargs)
        torch_device.synchronize(device)
        seconds = time.perf_counter() - started
    found = flatten_outputs(output)
    for name, tensor in found.items():
        if not recorder.find_id(tensor):
            replace(f"free.{name}", tensor)
    missing = sorted(wanted - seen)
    if missing:
        raise GraphError(
            f"this run did not compute {len(missing)} of {len(wanted)} tensors, the first is "
            f"{missing[0]!r}: the model took another path than when it was read"
        )
    last = next(reversed(found.values()), None)
    return GraphRun(seconds, str(device if last is None else last.device))


def copy_to_precision(
    model: nn.Module, precision: str, device: torch.device | str = "cpu"
) -> nn.Module:
    """Return a second model with the same weights, in inference mode, in another precision.

    Raises `FlagError` if it has floating weights that cannot be cast.
    """
    dtype = torch_device.DTYPES.get(precision)
    if dtype is None:
        raise FlagError(f"torch: there is no precision {precision!r}")
    second = materialise(_deep_copy(model), in_place=True)
    with torch.no_grad():
        for module in second.modules():
            if isinstance(module, torch.jit.ScriptModule):
                module.to(device, dtype)
                continue
            for name, value in list(vars(module).items()):
                if isinstance(value, torch.Tensor):
                    setattr(module, name, _cast(value, dtype, device))
        second._apply(lambda tensor: _cast(tensor, dtype, device))
    for parameter in second.parameters():
        if parameter.is_leaf:
            parameter.requires_grad_(False)
    return second.eval()


def _deep_copy(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for name, value in list(vars(module).items()):
            # The older weight-norm leaves a computed weight, which cannot be copied with its graph.
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                setattr(module, name, value.detach())
    return copy.deepcopy(model)


def _cast(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    if tensor.is_floating_point():
        return tensor.to(device, dtype)
    if tensor.is_complex() and dtype in (torch.float32, torch.float64):
        # Complex constants, as of rotary embeddings, have no counterpart in lower precisions.
        wide = torch.complex128 if dtype == torch.float64 else torch.complex64
        return tensor.to(device, wide)
    return tensor.to(device)


def materialise(model: nn.Module, *, in_place: bool = False) -> nn.Module:
    """Return a model whose tensors have memory: itself, unless it is on the meta device.

    The weights of a twin that were never set are then small seeded numbers.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if not any(tensor.is_meta for tensor in tensors):
        return model
    second = model if in_place else copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)

    def fill(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_meta:
            return tensor
        made = torch.zeros(tensor.shape, dtype=tensor.dtype)
        if tensor.is_floating_point():
            # Above 0: a variance must be.
            made.uniform_(0.01, 0.1, generator=generator)
        return made

    for module in second.modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = nn.Parameter(fill(parameter.data), requires_grad=parameter.requires_grad)
            module._parameters[name] = value if parameter.is_meta else parameter
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = fill(buffer)
    return second


# Weights -----------------------------------------------------------------------------------------


def describe_parameter(name: str, tensor: torch.Tensor) -> Parameter:
    """Return a weight with its moments; a tensor without memory has none."""
    return Parameter(
        name=name,
        role="",
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        trainable=isinstance(tensor, nn.Parameter),
        moments=None if tensor.is_meta else moments_of(to_numpy(tensor)),
    )


def read_parameters(model: nn.Module) -> dict[str, Array]:
    """Return copies of the floating weights by name; raises `WeightError` for one without any."""
    _require_values(model)
    return {name: np.array(to_numpy(tensor)) for name, tensor in named_weights(model).items()}


def _require_values(model: nn.Module) -> None:
    """Raise `WeightError` for a weight of a twin that was never set."""
    for name, tensor in named_weights(model).items():
        if tensor.is_meta:
            raise WeightError(f"{name}: it has no values yet")


def write_parameters(model: nn.Module, values: Mapping[str, Array]) -> None:
    """Set weights by name and compare every bit with what the model then has.

    Raises `WeightError` for a name that the model lacks, another shape, or other bits.
    """
    state = named_weights(model)
    for name, value in values.items():
        if name not in state:
            raise WeightError(f"{name}: the PyTorch model has no such weight")
        if tuple(state[name].shape) != tuple(value.shape):
            raise WeightError(
                f"{name}: expected {tuple(state[name].shape)}, found {tuple(value.shape)}"
            )
    given_bits: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        tensor = state[name]
        given = torch.from_numpy(np.array(value)).to(tensor.dtype)
        if tensor.is_meta:
            _set_tensor(model, name, given)
        else:
            with torch.no_grad():
                tensor.copy_(given)
        given_bits[name] = _bits(given)
    state = named_weights(model)
    for name, bits in given_bits.items():
        if not torch.equal(_bits(state[name].detach().cpu()), bits):
            raise WeightError(f"{name}: PyTorch holds other bits than it was given")
    _fill_counters(model)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(integers[tensor.element_size()])


def _fill_counters(model: nn.Module) -> None:
    """Give memory to the batch counters of a twin, which no inference reads."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta and not buffer.is_floating_point():
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)


def _set_tensor(model: nn.Module, name: str, value: torch.Tensor) -> None:
    """Give memory to a weight on the meta device."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    else:
        module._buffers[leaf] = value
