"""The tensors of a PyTorch module's output, of any structure, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch


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
