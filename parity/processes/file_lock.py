"""Locks on files, which end with the process that holds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without it
    fcntl = None  # type: ignore[assignment]


@contextmanager
def lock_file(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is created and stays, while open.

    Without `wait`, raises BlockingIOError if another process, or another part of this one, holds
    it. Raises OSError if the file cannot be written.
    """
    with path.open("a+b") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            file.truncate(0)
            file.write(str(os.getpid()).encode())
            file.flush()
        # Closing the file ends the lock.
        yield


def read_owner(path: Path) -> str:
    """Return the number of the process that holds or held the lock; empty if it is not known."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
