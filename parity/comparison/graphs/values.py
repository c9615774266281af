"""Reading the tensors of a capture by id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity.numerics.capture import CaptureReader

Array = NDArray[Any]


@contextmanager
def open_values(path: Path) -> Iterator[Callable[[str], Array]]:
    """Yield a function that reads a tensor of a capture; raises `KeyError` for one it lacks."""
    with CaptureReader(path) as reader:

        def read(tensor: str) -> Array:
            if tensor not in reader:
                raise KeyError(tensor)
            return reader.read(tensor)

        yield read
