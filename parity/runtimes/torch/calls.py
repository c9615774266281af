"""What a recording of a PyTorch module holds: its calls, with what each reads and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class WeightSource:
    """Where a tensor that depends on weights alone comes from.

    `names` are those of the state dict. `order` is the permutation of the axes of the one weight
    that it is, as `numpy.transpose` takes it; None where it is computed in another way.
    """

    names: tuple[str, ...]
    order: tuple[int, ...] | None


@dataclass(frozen=True)
class Operand:
    """A tensor argument of a call: data with its id, or weights, or a constant."""

    tensor: torch.Tensor
    id: str = ""
    weights: WeightSource | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it is neither data nor made of weights."""
        return not self.id and self.weights is None


@dataclass(frozen=True)
class Call:
    """A function of data, after it ran.

    `name` is the function's own, without the marks of methods and of in-place forms: `add` for
    `__iadd__`. `arguments` are by name, with an `Operand` in the place of each tensor. `outputs`
    are the tensors by id, those that an in-place function changed besides its own included.
    """

    number: int
    name: str
    arguments: Mapping[str, Any]
    operands: tuple[Operand, ...]
    outputs: Mapping[str, torch.Tensor]
    path: str
    source: str
    is_opaque: bool = False


def name_operand(number: int, index: int) -> str:
    """Return the id of an operand of a call that is a constant, or computed from weights alone."""
    return f"{number}<{index}"
