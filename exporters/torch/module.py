"""The weights of a PyTorch module as arrays by name, and its eval mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from exporters.graph.model import Array


def weights(module: torch.nn.Module) -> dict[str, Array]:
    """Return parameters and buffers as NumPy arrays, sharing memory with a module on the CPU."""
    return {name: to_array(tensor) for name, tensor in find_state_tensors(module).items()}


def find_state_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and persistent buffers by name, in the state dict's order.

    Not the state dict itself: a module's hooks may rename or join its entries, unlike the graph.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        transient = part._non_persistent_buffers_set
        named = [*part._parameters.items(), *part._buffers.items()]
        tensors |= {
            f"{path}.{name}" if path else name: tensor
            for name, tensor in named
            if tensor is not None and name not in transient
        }
    return tensors


def to_array(tensor: torch.Tensor) -> Array:
    """Return a tensor's values in its own dtype, without a copy if it is on the CPU."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        # NumPy has no bfloat16; ONNX's helper package brings one.
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    array: Array = tensor.numpy()
    return array


def to_tensor(array: Array) -> torch.Tensor:
    """Copy an array to a tensor, so that a module that works in place cannot change the array."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16").copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


@contextmanager
def preserve_state(module: torch.nn.Module) -> Iterator[None]:
    """While open, a call may set attributes of modules; afterwards they are as before."""
    before = [
        (child, dict(child.__dict__), dict(child._buffers), dict(child._parameters))
        for child in module.modules()
    ]
    try:
        yield
    finally:
        for child, attributes, buffers, parameters in before:
            # functional_call itself sets and restores the parameters' and buffers' tensors.
            for stored, names in ((child._buffers, buffers), (child._parameters, parameters)):
                stored.clear()
                stored.update(names)
            current = child.__dict__
            for name in [name for name in current if name not in attributes]:
                del current[name]
            current.update(attributes)


@contextmanager
def eval_mode(module: torch.nn.Module) -> Iterator[None]:
    """While open, the module and all its children are in eval mode."""
    modes = [(child, child.training) for child in module.modules()]
    # An exported program's module was traced in one mode, and refuses to be put into another.
    with contextlib.suppress(NotImplementedError):
        module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training
