"""The inputs of a PyTorch module: names, examples, and the arguments of its `forward`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.errors import InputError, UsageError
from parity.runtimes.graph_framework import Array
from parity.runtimes.torch.recorder import Recorder
from parity.runtimes.torch.run import device_and_dtype
from parity.runtimes.torch.weights import to_numpy


def required_inputs(model: nn.Module) -> list[str]:
    """Return the names of the arguments of `forward` that have no default."""
    return [
        parameter.name
        for parameter in forward_parameters(model)
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]


def forward_parameters(model: nn.Module) -> list[inspect.Parameter]:
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
        names = [p.name for p in forward_parameters(model) if p.kind is not p.VAR_POSITIONAL]
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


def bind_inputs(
    model: nn.Module, inputs: Mapping[str, Array]
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Return the inputs as tensors in the order of `forward`'s arguments, and those by position.

    Raises `InputError` for a name that is unknown or missing.
    """
    parameters = forward_parameters(model)
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


def prepare_call(
    model: nn.Module, recorder: Recorder, inputs: Mapping[str, Array]
) -> tuple[list[Any], dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    """Return the arguments of `forward`, the tensors and the ids of the inputs by name."""
    ordered, tensors = bind_inputs(model, inputs)
    ids: dict[str, str] = {}
    for index, name in enumerate(ordered):
        ids[name], tensors[name] = recorder.add_input(index, tensors[name])
    names = {p.name for p in forward_parameters(model) if p.kind is not p.VAR_POSITIONAL}
    positional = {
        p.name
        for p in forward_parameters(model)
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    }
    by_position = [p for p in forward_parameters(model) if p.kind is p.VAR_POSITIONAL]
    args, kwargs, skipped = [], {}, False
    for parameter in forward_parameters(model):
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
