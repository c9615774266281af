"""Second models with the weights of a first: in another precision, or with memory."""

from __future__ import annotations

import copy

import torch
from torch import nn

from parity.errors import PrecisionError
from parity.runtimes.torch import device as torch_device


def copy_to_precision(
    model: nn.Module, precision: str, device: torch.device | str = "cpu"
) -> nn.Module:
    """Return a second model with the same weights, in inference mode, in another precision.

    Raises `PrecisionError` if it has floating weights that cannot be cast.
    """
    dtype = torch_device.DTYPES.get(precision)
    if dtype is None:
        raise PrecisionError(f"torch: there is no precision {precision!r}")
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
