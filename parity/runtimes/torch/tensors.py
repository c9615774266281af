"""The tensors in nested arguments and of a module, by identity and by memory."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Identity:
    """A tensor as a key: by what it is, not by its values."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __hash__(self) -> int:
        return id(self.tensor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.tensor is self.tensor


def find_tensors(*values: Any) -> list[torch.Tensor]:
    """Return the tensors in nested tuples, lists and dicts, in their order."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += find_tensors(*value)
        elif isinstance(value, Mapping):
            found += find_tensors(*value.values())
        elif isinstance(value, slice):
            found += find_tensors(value.start, value.stop, value.step)
        elif isinstance(value, nn.utils.rnn.PackedSequence):
            found += find_tensors(*value)
    return found


def replace_tensors(value: Any, by_id: Mapping[int, Any]) -> Any:
    """Return a nested value with its tensors replaced, those of the given identities."""
    if isinstance(value, torch.Tensor):
        return by_id.get(id(value), value)
    if type(value) in (tuple, list):
        return type(value)(replace_tensors(item, by_id) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(replace_tensors(item, by_id) for item in value))
    if type(value) is dict:
        return {key: replace_tensors(item, by_id) for key, item in value.items()}
    return value


def empty_like(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same shape and strides, by which PyTorch chooses how it computes."""
    span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    if 0 in tensor.stride() or span > 2 * tensor.numel():
        return torch.empty_like(tensor)
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )


def find_storage(tensor: torch.Tensor) -> int:
    """Return the address of a tensor's memory; its own identity where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return -id(tensor)


def watch_tensor(tensor: torch.Tensor, table: dict[int, Any]) -> weakref.ref[torch.Tensor]:
    """Return a reference to a tensor, with which its entry in a table by identity goes."""
    key = id(tensor)
    # Python uses an address again.
    return weakref.ref(tensor, lambda _: table.pop(key, None))


def named_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the floating parameters, then the floating buffers that a checkpoint holds, by name.

    One that has several names is there once, under the first.
    """
    buffers: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        for name, tensor in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                buffers[f"{path}.{name}" if path else name] = tensor
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in (*model.named_parameters(), *buffers.items()):
        if tensor.is_floating_point():
            found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def find_constants(model: nn.Module) -> set[int]:
    """Return the identities of the tensors that modules have beside their parameters."""
    return {
        id(value)
        for module in model.modules()
        for value in (*vars(module).values(), *module.buffers(recurse=False))
        if isinstance(value, torch.Tensor)
    }
