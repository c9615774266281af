"""The weights of a PyTorch module: described, read, written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from parity.errors import WeightError
from parity.network.graph import Parameter
from parity.network.moments import moments_of
from parity.runtimes.graph_framework import Array
from parity.runtimes.torch.tensors import named_weights
from parity.runtimes.torch.weights import to_numpy


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
    require_values(model)
    return {name: np.array(to_numpy(tensor)) for name, tensor in named_weights(model).items()}


def require_values(model: nn.Module) -> None:
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
