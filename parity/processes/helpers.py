"""Helper processes that measure captures beside this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from parity.processes.child import Child


@contextmanager
def measuring_helpers(count: int) -> Iterator[list[Child]]:
    """Start `count` children that hold NumPy alone; they end with the context."""
    with ExitStack() as stack:
        children = [Child("numpy") for _ in range(count)]
        for child in children:
            stack.callback(child.close)
        yield children
