"""Reading the tensors of a capture by id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity.numerics.capture import CaptureReader

Array = NDArray[Any]


MAX_KEPT = 2**26
"""Bytes of tensors that are kept once they are read: one is read several times in a row."""


@contextmanager
def open_values(path: Path) -> Iterator[Callable[[str], Array]]:
    """Yield a function that reads a tensor of a capture; raises `KeyError` for one it lacks."""
    kept: dict[str, Array] = {}
    with CaptureReader(path) as reader:

        def read(tensor: str) -> Array:
            if tensor in kept:
                return kept[tensor]
            if tensor not in reader:
                raise KeyError(tensor)
            array = reader.read(tensor)
            kept[tensor] = array
            size = sum(each.nbytes for each in kept.values())
            while size > MAX_KEPT:
                size -= kept.pop(next(iter(kept))).nbytes
            return array

        yield read
