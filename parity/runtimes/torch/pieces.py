"""A part of a PyTorch module as source: the functions of one run, with their own arguments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.overrides import resolve_name

from parity.processes.graph_requests import PieceCode
from parity.runtimes.pieces import (
    PieceOperations,
    Step,
    UnwritableError,
    count_layers,
    format_steps,
    name_variable,
    render_value,
)
from parity.runtimes.torch.calls import Call, Operand
from parity.runtimes.torch.model_inputs import prepare_call
from parity.runtimes.torch.recorder import Recorder, call_model
from parity.runtimes.torch.tensors import find_tensors
from parity.runtimes.torch.weights import to_numpy

Array = NDArray[Any]

_OPERATORS = {
    method: operator
    for operator, methods in (
        ("+", "add __add__"),
        ("-", "sub __sub__"),
        ("*", "mul __mul__"),
        ("/", "div __truediv__"),
        ("@", "matmul __matmul__"),
    )
    for method in methods.split()
}
"""Python's operators by the method of PyTorch's tensors."""

_LONGEST_REPR = 160


class TorchPieces(PieceOperations):
    """`PieceOperations` for the one module of a child."""

    model: nn.Module

    def trace_steps(self, inputs: Mapping[str, Array]) -> tuple[Sequence[Step], Collection[str]]:
        recorder = _StepRecorder(self.model)
        args, kwargs, _, ids = prepare_call(self.model, recorder, inputs)
        call_model(recorder, self.model, args, kwargs)
        return recorder.steps, ids.values()

    def to_array(self, value: Any) -> Array:
        return to_numpy(value)

    def wrap_piece(self, steps: Sequence[Step], reads: Sequence[str], output: str) -> PieceCode:
        lines = [
            "import torch",
            "from torch.nn import functional",
            "",
            "w = {n: torch.from_numpy(cast(v, dtype)) for n, v in weights.items()}",
            *(
                f"{name_variable(each)} = torch.from_numpy(cast(inputs[{each!r}], dtype))"
                for each in reads
            ),
            "with torch.inference_mode():",
            *format_steps(steps, "    "),
            f"result = {name_variable(output)}.numpy()",
        ]
        labels = tuple(step.label for step in steps)
        return PieceCode(tuple(lines), tuple(reads), labels, ("torch",), count_layers(steps))


class _StepRecorder(Recorder):
    """Keeps each numbered function with the arguments that it was called with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, observe=self._keep)
        self.steps: list[Step] = []
        self._model = model
        self._call: Call | None = None
        self._names = {
            id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()
        }

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._call = None
        output = super().__torch_function__(func, types, args, kwargs)
        call, self._call = self._call, None
        if call is not None:
            self.steps.append(self._make_step(call, func, args, kwargs or {}, output))
        return output

    def _keep(self, call: Call) -> None:
        if call.is_opaque:
            inputs = tuple(each.id for each in call.operands if each.id)
            reason = "it ran outside of what PyTorch shows"
            self.steps.append(
                Step(inputs, tuple(call.outputs), label=self._describe_call(call), reason=reason)
            )
        else:
            self._call = call

    def _make_step(
        self, call: Call, func: Any, args: Any, kwargs: Mapping[str, Any], output: Any
    ) -> Step:
        tensors = find_tensors(args, dict(kwargs))
        operands = dict(zip(map(id, tensors), call.operands, strict=False))
        writer = _CallWriter(call, operands, self._names)
        inputs = tuple(dict.fromkeys(each.id for each in call.operands if each.id))
        label = self._describe_call(call)
        try:
            lines = writer.write(func, args, kwargs, output, call.operands[len(tensors) :])
        except UnwritableError as error:
            return Step(inputs, tuple(call.outputs), label=label, reason=str(error))
        module = self._model.get_submodule(call.path)
        is_layer = call.path and not list(module.children())
        place = f"layer {call.path}" if is_layer else call.source
        return Step(inputs, tuple(call.outputs), tuple(lines), writer.values, label, place=place)

    def _describe_call(self, call: Call) -> str:
        parts = [call.name]
        if call.path:
            parts.append(f"in `{call.path}`")
            module = self._model.get_submodule(call.path)
            text = repr(module)
            if not list(module.children()) and len(text) <= _LONGEST_REPR:
                parts.append(f"= {text}")
        return " ".join([*parts, *([f"({call.source})"] if call.source else [])])


class _CallWriter:
    """Writes one call; `values` are the weights and constants that it reads."""

    def __init__(
        self, call: Call, operands: Mapping[int, Operand], names: Mapping[int, str]
    ) -> None:
        self.values: dict[str, torch.Tensor] = {}
        self._call, self._operands, self._names = call, operands, names

    def write(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Any,
        aliases: Sequence[Operand],
    ) -> list[str]:
        """Return the lines; `aliases` share the memory that an in-place function has changed."""
        given = [self._render(each) for each in args]
        named = [f"{name}={self._render(value)}" for name, value in kwargs.items()]
        expression = _format_call(func, given, named)
        outputs = list(self._call.outputs)
        if self._call.name == "setitem":
            lines = [expression, f"{name_variable(outputs[0])} = {given[0]}"]
            made = 1
        elif isinstance(output, torch.Tensor):
            lines, made = [f"{name_variable(outputs[0])} = {expression}"], 1
        else:
            places = dict[int, str]()
            for place, tensor in _find_places(output, "made"):
                places.setdefault(id(tensor), place)
            made = len(places)
            lines = [f"made = {expression}"]
            lines += [
                f"{name_variable(found)} = {place}"
                for found, place in zip(outputs, places.values(), strict=False)
            ]
        for found, alias in zip(outputs[made:], aliases, strict=True):
            lines.append(f"{name_variable(found)} = {name_variable(alias.id)}")
        return lines

    def _render(self, value: Any) -> str:
        return render_value(value, self._render_own)

    def _render_own(self, value: Any) -> str | None:
        if isinstance(value, torch.Tensor):
            return self._render_tensor(value)
        if isinstance(value, torch.dtype):
            # The widest run is in float64.
            return "getattr(torch, dtype)" if value == torch.float32 else str(value)
        if isinstance(value, torch.device):
            return 'torch.device("cpu")'
        if isinstance(value, torch.memory_format):
            return str(value)
        return (
            render_value(tuple(value), self._render_own) if isinstance(value, torch.Size) else None
        )

    def _render_tensor(self, tensor: torch.Tensor) -> str:
        operand = self._operands.get(id(tensor))
        if operand is not None and operand.id:
            return name_variable(operand.id)
        if tensor.is_complex() or tensor.is_sparse:
            raise UnwritableError(f"a constant of {tensor.dtype} cannot be stated in source")
        name = self._names.get(id(tensor))
        if name is None:
            source = operand.weights.names[0] if operand is not None and operand.weights else ""
            name = f"{source or 'constant'} {self._call.number}.{len(self.values)}"
        self.values[name] = tensor.detach()
        return f"w[{name!r}]"


def _format_call(func: Any, given: Sequence[str], named: Sequence[str]) -> str:
    name = _name_function(func)
    method = name.removeprefix("torch.Tensor.")
    if method == name:
        return (
            f"{name.replace('torch.nn.functional.', 'functional.')}({', '.join([*given, *named])})"
        )
    if method.endswith(".__get__"):
        return f"{given[0]}.{method.removesuffix('.__get__')}"
    if method in _OPERATORS and len(given) == 2 and not named:
        return f"{given[0]} {_OPERATORS[method]} {given[1]}"
    if method == "__getitem__":
        return f"{given[0]}[{given[1]}]"
    if method == "__setitem__":
        return f"{given[0]}[{given[1]}] = {given[2]}"
    return f"{given[0]}.{method}({', '.join([*given[1:], *named])})"


def _name_function(func: Any) -> str:
    """Return the public name of a function; raises `UnwritableError` if it has none."""
    name = resolve_name(func)
    if name is None:
        names = (each for each in dir(functional) if getattr(functional, each) is func)
        found = next(names, None)
        name = None if found is None else f"torch.nn.functional.{found}"
    if name is None or not name.startswith("torch."):
        raise UnwritableError(f"{getattr(func, '__name__', func)} has no public name in PyTorch")
    return str(name)


def _find_places(value: Any, place: str) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of a nested value with the expression that finds each in it."""
    if isinstance(value, torch.Tensor):
        return [(place, value)]
    members: list[tuple[str, Any]] = []
    if isinstance(value, tuple | list):
        members = [(f"{place}[{at}]", each) for at, each in enumerate(value)]
    elif isinstance(value, Mapping):
        members = [(f"{place}[{key!r}]", each) for key, each in value.items()]
    return [found for where, each in members for found in _find_places(each, where)]
