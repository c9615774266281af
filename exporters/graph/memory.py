"""Memory that was freed and that the C library keeps, returned to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from exporters.graph.model import Array

_MANY_WEIGHTS = 2**25
"""Numbers from which on two copies of them in memory matter."""


def are_large(tensors: Mapping[str, Array]) -> bool:
    """Return whether the copies of a model's weights matter more than the time to avoid them."""
    return sum(array.size for array in tensors.values()) >= _MANY_WEIGHTS


@contextmanager
def pause_collection() -> Iterator[None]:
    """While open, collect no cycles: one look at all objects of a framework takes half a second."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect_and_return() -> None:
    """Collect the garbage of a trace, whose objects refer to each other, and return the memory."""
    gc.collect()
    return_freed()


def return_freed() -> None:
    """Return freed memory to the system, where the C library has a call for that (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
