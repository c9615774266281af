"""Writing what a user names: a file is whole or not there, and nothing but a file is replaced.

A symbolic link is followed: the file at its end is replaced, the link stays. A device (such as
`/dev/null`), a FIFO or an open file (`/dev/stdout`) is written to when all is complete.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parity.errors import OutputError

# Opening one of these by its name would truncate a file that it was redirected to.
_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/(?:self|thread-self)/fd/(\d+)")
_MOST_LINKS = 40
"""As many as Linux follows."""


@dataclass(frozen=True)
class _Target:
    """What a path leads to: a plain `file`, there or not yet, a device or FIFO, an open file."""

    file: Path | None = None
    device: Path | None = None
    descriptor: int | None = None


class Part:
    """A file while it is being written, at `path`; `commit` gives it its name.

    `path` lies in the folder of the target and ends in its name, since some writers insist on the
    suffixes. Raises OutputError where `require_writable` does.
    """

    def __init__(self, target: str | Path) -> None:
        require_writable(target)
        self._given = Path(target)
        self._target = _resolve(self._given)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if self._target.file is not None:
            final = self._target.file
            self.path = final.with_name(f".{secrets.token_hex(6)}.{final.name}")
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="parity-")
            self.path = Path(self._folder.name) / self._given.name

    def commit(self) -> None:
        """Give the file its name, or send it to the device. Raises OutputError."""
        try:
            if self._target.file is not None:
                self.path.replace(self._target.file)
            else:
                _send(self.path, self._target)
        except BrokenPipeError:
            # Whoever read has seen enough, which is no fault.
            raise
        except OSError as error:
            raise _unwritable(self._given, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what is left of the unfinished file."""
        self.path.unlink(missing_ok=True)
        if self._folder is not None:
            self._folder.cleanup()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name to write to that becomes `path` if all goes well; see `Part`. Raises OutputError."""
    part = Part(path)
    try:
        yield part.path
        part.commit()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        part.discard()


def require_writable(path: str | Path) -> None:
    """Raise `OutputError` if `path` could not be written, before any work is done."""
    target = _resolve(Path(path))
    if target.device is not None and not os.access(target.device, os.W_OK):
        raise OutputError(f"{path}: cannot be written: no permission")
    if target.file is None:
        return
    folder = target.file.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: cannot be written: the folder {folder} is not writable")


def plain(path: str | Path) -> Path:
    """The file that `path` names, links followed, for whoever must write it under its own name.

    Raises OutputError where `require_writable` does, and for a device, a FIFO or an open file.
    """
    require_writable(path)
    target = _resolve(Path(path))
    if target.file is None:
        raise OutputError(f"{path}: is no plain file, which this must be; give a file name")
    return target.file


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all. Raises `OutputError`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _resolve(path: Path) -> _Target:
    """Follow the links of `path`. Raises OutputError for a folder and for other special files."""
    try:
        end = _follow(path)
        mode = _mode(end)
    except OSError as error:
        raise _unwritable(path, error) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a folder; give a file name")
    if isinstance(end, int):
        return _Target(descriptor=end)
    if mode is None or stat.S_ISREG(mode):
        return _Target(file=end)
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return _Target(device=end)
    raise OutputError(f"{path}: is neither a file nor a device or FIFO that can be written to")


def _mode(end: Path | int) -> int | None:
    """The type and permissions of a path or an open file; None where there is nothing."""
    if isinstance(end, int):
        return os.fstat(end).st_mode
    try:
        return end.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _follow(path: Path) -> Path | int:
    """The end of a chain of symbolic links: a path, or the number of an open file."""
    place = path
    for _ in range(_MOST_LINKS):
        match = _DESCRIPTOR.fullmatch(os.path.abspath(place))
        if match is not None:
            return int(match[1] or match[2])
        if not place.is_symlink():
            return place
        place = Path(os.path.realpath(place.parent)) / place.readlink()
    raise OutputError(f"{path}: cannot be written: more than {_MOST_LINKS} symbolic links")


def _send(source: Path, target: _Target) -> None:
    """Write the bytes of `source` to a device, a FIFO or an open file."""
    sys.stdout.flush()
    sys.stderr.flush()
    if target.descriptor is not None:
        sink = os.fdopen(os.dup(target.descriptor), "wb")
    else:
        assert target.device is not None
        sink = target.device.open("wb")
    with source.open("rb") as held, sink:
        shutil.copyfileobj(held, sink, 2**20)


def _unwritable(path: str | Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written: {error.strerror or error}")
