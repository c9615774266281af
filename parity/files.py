"""Writing files that are whole or not there: a temporary name, then a rename."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parity.errors import OutputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name to write to, in the folder of `path`, that becomes `path` if all goes well.

    The suffixes are those of `path`, which some writers insist on. Raises `OutputError`.
    """
    path = Path(path)
    require_writable(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: str | Path) -> None:
    """Raise `OutputError` if a file of this name could not be written, before any work is done."""
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: there is no folder {folder}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all. Raises `OutputError`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
