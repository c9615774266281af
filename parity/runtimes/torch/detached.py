"""Gradients that pass where a module detaches, or do not where it does not: to prove a cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from parity.runtimes.torch.function_names import name_function

_DETACH = (Tensor.detach, Tensor.detach_, torch.detach)


class AttachedParts(TorchFunctionMode):
    """While entered, what a module detaches, or computes without gradients, keeps its gradient."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _DETACH or getattr(func, "__self__", None) is Tensor.data:
            return args[0]
        if func is torch._C._set_grad_enabled:
            return None
        return func(*args, **(kwargs or {}))


class DetachedOperand(TorchFunctionMode):
    """While entered, one operand of one sum of two tensors passes no gradient on.

    `number` is the number of the sum in the pass, `operand` 0 or 1.
    """

    def __init__(self, number: int, operand: int) -> None:
        super().__init__()
        self._number, self._operand = number, operand
        self._count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if name_function(func)[0] == "add" and is_sum(args):
            if self._count == self._number:
                args = tuple(
                    each.detach() if place == self._operand else each
                    for place, each in enumerate(args)
                )
            self._count += 1
        return func(*args, **options)


def is_sum(arguments: Any) -> bool:
    """Return whether the arguments of an addition are two tensors."""
    return len(arguments) == 2 and all(isinstance(each, Tensor) for each in arguments)
