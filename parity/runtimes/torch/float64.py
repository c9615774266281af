"""What a function of a float64 run computes with: casts and constants in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from parity.runtimes.constants import match_constants
from parity.runtimes.torch import functions
from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.tensors import replace_tensors


def widen_casts(
    func: Any, name: str, args: Any, kwargs: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Return the call with float64 where it asks for float32, and so of complex numbers."""
    if func is torch.Tensor.float:
        return torch.Tensor.double, args, kwargs
    if func is torch.Tensor.cfloat:
        return torch.Tensor.cdouble, args, kwargs
    if name == "rms_norm" and functions.bind_arguments(func, name, args, kwargs).get("eps") is None:
        # PyTorch's default epsilon is that of the dtype.
        return func, args[:3], {**kwargs, "eps": torch.finfo(torch.float32).eps}
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    if any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values())):
        args = tuple(
            wide.get(value, value) if isinstance(value, torch.dtype) else value for value in args
        )
        kwargs = {
            key: wide.get(value, value) if isinstance(value, torch.dtype) else value
            for key, value in kwargs.items()
        }
    return func, args, kwargs


def share_constants(
    args: Any, kwargs: dict[str, Any], operands: Sequence[Operand]
) -> tuple[Any, dict[str, Any]]:
    """Return the arguments of a function of data with the constants that the reference has."""
    by_id = {
        id(each.tensor): torch.from_numpy(match_constants(each.tensor.detach().cpu().numpy()))
        for each in operands
        if not each.id and each.weights is None and each.tensor.is_floating_point()
    }
    if not by_id or not any(each.id for each in operands):
        return args, kwargs
    return replace_tensors(args, by_id), replace_tensors(kwargs, by_id)
