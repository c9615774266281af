"""Helper processes, which measure captures in parallel with this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from parity.processes.child import Child


@contextmanager
def start_measurement_helpers(count: int) -> Iterator[list[Child]]:
    """Start `count` children that load NumPy alone; they end with the context."""
    with ExitStack() as stack:
        children = [Child("numpy") for _ in range(count)]
        for child in children:
            stack.callback(child.close)
        yield children
