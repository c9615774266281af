"""Makes the nodes of a graph of the calls that a recording of a PyTorch module sees."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from parity.errors import GraphError
from parity.network import kinds
from parity.network.arrays import REAL_DTYPES
from parity.network.checkpoint_fit import join_first
from parity.network.graph import OPAQUE, PARAMETER, Graph, Node, Parameter, Port, Tensor
from parity.network.kind import COMPLEX
from parity.runtimes.torch import operations
from parity.runtimes.torch.calls import Call, Operand, name_operand
from parity.runtimes.torch.model_outputs import flatten_outputs
from parity.runtimes.torch.parameters import describe_parameter
from parity.runtimes.torch.recorder import Recorder
from parity.runtimes.torch.tensors import named_weights

MAX_CONSTANT = 1024
"""Constants of as many values are a part of the graph; of longer ones it has the shape."""

_RAN = " operations ran before"


class GraphBuilder:
    """Makes nodes of calls."""

    def __init__(self, model: nn.Module, run: nn.Module) -> None:
        """`model` holds the weights, `run` is the model that runs: another one for a twin."""
        self._state = dict(named_weights(model))
        self._complex_weights = [
            name for name, each in model.named_parameters() if each.is_complex()
        ]
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
                hyper=_hyper(operation),
                path=call.path,
                source=call.source,
                constants=_constants(operation),
                constant_ids=_constant_ids(operation, call),
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
        dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        if tensor.is_complex():
            # It is compared by the real and the imaginary part.
            dtype, shape, axes = REAL_DTYPES.get(dtype, dtype), (*shape, 2), ""
        self._tensors[found] = Tensor(found, shape, dtype, axes)

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
        lines = [f"{len(self._nodes)}{_RAN}"]
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
        if self._complex_weights:
            names = join_first(self._complex_weights)
            notes.append(f"complex weights are neither compared nor copied as weights: {names}")
        notes += [
            f"{node.path or node.operation}: {node.operation} ({node.source}) has no kind, and is "
            "compared at its outputs"
            for node in self._nodes
            if node.kind == OPAQUE and node.operation != PARAMETER
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


def _hyper(operation: operations.Operation) -> Mapping[str, Any]:
    """Return the hyperparameters of an operation, with which operands of arithmetic are complex."""
    if operation.kind == OPAQUE:
        return {}
    operands = [each.tensor if isinstance(each, Operand) else each for each in operation.operands]
    flags = [each.is_complex() if isinstance(each, torch.Tensor) else isinstance(each, complex)
             for each in operands]  # fmt: skip
    is_arithmetic = kinds.properties(operation.kind).number_verb
    return {**operation.hyper, COMPLEX: flags} if is_arithmetic and any(flags) else operation.hyper


def _constants(operation: operations.Operation) -> dict[str, Any]:
    """Return the numbers and constants among the operands, by position."""
    found: dict[str, Any] = {}
    for index, operand in enumerate(operation.operands):
        if isinstance(operand, bool | int | float):
            found[str(index)] = operand
        elif isinstance(operand, complex):
            found[str(index)] = {COMPLEX: [operand.real, operand.imag]}
        elif isinstance(operand, Operand) and operand.weights is not None:
            # Where a kind has no role for it, its position says what it is.
            shape = list(operand.tensor.shape)
            found[str(index)] = {"parameter": operand.weights.names[0], "shape": shape}
        elif isinstance(operand, Operand) and operand.is_constant:
            tensor = operand.tensor
            if tensor.is_complex() and tensor.numel() == 1:
                number = complex(tensor.item())
                found[str(index)] = {COMPLEX: [number.real, number.imag]}
            elif tensor.numel() <= MAX_CONSTANT and not tensor.is_complex():
                found[str(index)] = tensor.tolist()
            else:
                dtype = str(tensor.dtype).removeprefix("torch.")
                found[str(index)] = {"shape": list(tensor.shape), "dtype": dtype}
    return found


def _constant_ids(operation: operations.Operation, call: Call) -> dict[str, str]:
    """Return the ids of the constants of several values, and of what is computed from weights.

    By the place among the operands, or the role, as `constants` and `parameters` have them.
    """
    places: dict[str, Any] = {str(i): each for i, each in enumerate(operation.operands)}
    found = {}
    for place, operand in {**places, **operation.weights}.items():
        if not isinstance(operand, Operand) or operand.id or operand.tensor.numel() == 1:
            continue
        if operand.weights is None or operand.weights.order is None:
            index = next((i for i, each in enumerate(call.operands) if each is operand), None)
            # A kernel that the product reads transposed is no operand of the call.
            if index is not None:
                found[place] = name_operand(call.number, index)
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


def count_operations(error: BaseException) -> int:
    """Return how many operations ran before an error with the notes of `describe_progress`."""
    counts = [note for note in getattr(error, "__notes__", ()) if note.endswith(_RAN)]
    return int(counts[0].removesuffix(_RAN)) if counts else 0
