"""Tensors of a recorded run: their marks, their shapes, and those in nested values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from parity.network.arrays import REAL_DTYPES


def describe_values(tensor: Any) -> tuple[tuple[int, ...], str]:
    """Return the shape and the dtype; of complex numbers those of the real and imaginary parts."""
    shape, dtype = tuple(tensor.shape), tensor.dtype.name
    return ((*shape, 2), REAL_DTYPES[dtype]) if dtype in REAL_DTYPES else (shape, dtype)


def mark_tensor(tensor: Any, owner: object, mark: Any) -> None:
    """Note what a recorder, the owner, knows of a tensor."""
    # TensorFlow's eager tensors have a dictionary of their own, as Keras's masks need it.
    tensor._parity_mark = (owner, mark)


def mark_of(tensor: Any, owner: object) -> Any:
    """Return what a recorder has noted of a tensor; None if nothing."""
    known = getattr(tensor, "_parity_mark", None)
    return known[1] if known is not None and known[0] is owner else None


def iterate_tensors(value: Any, cls: Any) -> Iterator[Any]:
    """Yield the tensors, of class `cls`, in a nested value, in their order."""
    if isinstance(value, cls):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from iterate_tensors(item, cls)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from iterate_tensors(item, cls)


def map_tensors(value: Any, cls: Any, function: Callable[[Any], Any]) -> Any:
    """Return a nested value with each tensor in it replaced by the function's answer."""
    if isinstance(value, cls):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, cls, function) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(item, cls, function) for item in value)
    if isinstance(value, dict):
        return type(value)((k, map_tensors(v, cls, function)) for k, v in value.items())
    return value
