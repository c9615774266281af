"""Files that a user names: read only if they are regular files, written completely or not at all.

A symbolic link is followed: its target is replaced, the link stays. A device (such as `/dev/null`),
a FIFO or an open file (`/dev/stdout`) gets the bytes once they are complete.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from parity import temporary
from parity.errors import OutputError

# Opening one of these by its name would truncate a file that it was redirected to.
_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/(?:self|thread-self)/fd/(\d+)")
_MAX_LINKS = 40
"""Linux's limit."""


LONGEST_TEXT = 64 * 2**20
"""Bytes of a text file that a user names, such as a table or a report."""

FORMATS = frozenset({
    ".csv", ".h5", ".html", ".jpg", ".json", ".jsonl", ".keras", ".md", ".npy", ".npz", ".onnx",
    ".pdf", ".png", ".pt", ".pt2", ".pth", ".py", ".safetensors", ".svg", ".toml", ".tsv", ".xml",
    ".yaml", ".yml", ".zip",
})  # fmt: skip
"""The suffixes that say what is in a file that these tools write or read."""

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises OSError, also for a FIFO, a device, a socket or a folder, none of which is read.
    """
    try:
        # Without the flag, opening a FIFO waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    try:
        _require_regular_mode(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(path: str | Path) -> None:
    """Raise OSError unless `path` is a regular file, for a library that opens it by its name."""
    try:
        _require_regular_mode(os.stat(path).st_mode)
    except ValueError as error:
        # A NUL in the name.
        raise OSError(errno.EINVAL, str(error)) from error


def read_bytes(path: str | Path, *, longest: int = LONGEST_TEXT) -> bytes:
    """Return the content of a regular file; raises OSError, also above `longest` bytes."""
    with open_regular(path) as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise OSError(errno.EFBIG, f"is larger than {longest >> 20} MiB")
    return content


def read_text(path: str | Path) -> str:
    """Return the UTF-8 text of a regular file of at most `LONGEST_TEXT` bytes.

    Raises OSError, and UnicodeDecodeError for another encoding.
    """
    return read_bytes(path).decode()


def _require_regular_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise OSError(errno.EINVAL, f"expected a file, found {kind}")


@dataclass(frozen=True)
class _Target:
    """The end of a path: a regular `file` (which may not exist), a device or FIFO, an open file."""

    file: Path | None = None
    device: Path | None = None
    descriptor: int | None = None


class PartialFile:
    """A file that is being written at `path`; `commit` renames it to `target`.

    `path` is in the target's folder and ends in its name, since some writers require a suffix.
    Raises OutputError where `require_writable` does.
    """

    def __init__(self, target: str | Path) -> None:
        require_writable(target)
        self._name = Path(target)
        self._target = _resolve(self._name)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if self._target.file is not None:
            final = self._target.file
            temporary.sweep_once(final.parent)
            self.path = temporary.name_beside(final)
        else:
            self._folder = temporary.create_folder()
            self.path = Path(self._folder.name) / self._name.name

    def commit(self) -> None:
        """Rename the file to its target, or copy it to the device. Raises OutputError."""
        try:
            if self._target.file is not None:
                self.path.replace(self._target.file)
            else:
                _copy_to_target(self.path, self._target)
        except BrokenPipeError:
            # The reader has closed the pipe, which is no error.
            raise
        except OSError as error:
            raise _write_error(self._name, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the incomplete file, and those beside it of processes that have ended."""
        self.path.unlink(missing_ok=True)
        # A child that wrote here may have been killed.
        temporary.sweep(self.path.parent)
        if self._folder is not None:
            self._folder.cleanup()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` if no exception is raised; see `PartialFile`.

    Raises OutputError.
    """
    part = PartialFile(path)
    try:
        yield part.path
        part.commit()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        part.discard()


def require_writable(path: str | Path) -> None:
    """Raise `OutputError` if `path` cannot be written; to be called before any work is done."""
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


def require_suffix(path: str | Path, *suffixes: str, only: bool = False) -> None:
    """Raise `OutputError` if the name of a file to be written says another format.

    `suffixes` are those of what is written, the usual one first. Others of `FORMATS` are refused;
    with `only` all others, since what reads such files goes by their names. A name without a
    suffix, a device and a FIFO say nothing; `.5` of `net-1.5` is no suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (*suffixes, "") or not (suffix in FORMATS or (only and suffix[1].isalpha())):
        return
    if _resolve(Path(path)).file is None:
        return
    expected = " or ".join(suffixes)
    raise OutputError(
        f"{path}: expected a name that ends in {expected}, which is what is written, found "
        f"'{suffix}'; give {Path(path).with_suffix(suffixes[0])}"
    )


def require_writable_folder(path: str | Path) -> None:
    """Raise `OutputError` if `path` is no folder that can be written in, and cannot be made one."""
    folder = Path(path)
    # `exists` is false below a file.
    existing = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not existing.is_dir():
        raise OutputError(f"{path}: cannot be a folder: {existing} is none")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: the folder {existing} is not writable")


def require_other_files(outputs: Iterable[str | Path], inputs: Iterable[str]) -> None:
    """Raise OutputError if an output is the same file as one of the inputs.

    `inputs` may be texts that name no file; of `NAME=PATH`, `PATH:NAME` and `PATH,ARGUMENTS` the
    path counts too.
    """
    read = {}
    for text in inputs:
        parts = [text, text.partition("=")[2]]
        parts += [part.partition(",")[0] for part in parts]
        for part in (*parts, *(part.rpartition(":")[0] for part in parts)):
            status = _find_status(part)
            if status is not None:
                read[status.st_dev, status.st_ino] = part
    for path in outputs:
        status = _find_status(path)
        if status is not None and (status.st_dev, status.st_ino) in read:
            raise OutputError(f"{path}: would replace a file that is read; give another name")


def _find_status(path: str | Path) -> os.stat_result | None:
    """Return the status of a regular file; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def require_plain_file(path: str | Path) -> Path:
    """Return the regular file that `path` names, symbolic links followed; it may not exist yet.

    Raises OutputError where `require_writable` does, and for a device, a FIFO or an open file.
    """
    require_writable(path)
    target = _resolve(Path(path))
    if target.file is None:
        raise OutputError(f"{path}: not a regular file; give a file name")
    return target.file


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, completely or not at all. Raises `OutputError`."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def _resolve(path: Path) -> _Target:
    """Follow the links of `path`. Raises OutputError for a folder and for other special files."""
    try:
        end = _follow_links(path)
        mode = _read_mode(end)
    except OSError as error:
        raise _write_error(path, error) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a folder; give a file name")
    if isinstance(end, int):
        return _Target(descriptor=end)
    if mode is None or stat.S_ISREG(mode):
        return _Target(file=end)
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return _Target(device=end)
    raise OutputError(f"{path}: neither a file nor a device or FIFO that can be written to")


def _read_mode(end: Path | int) -> int | None:
    """Return the type and permissions of a path or an open file; None if it does not exist."""
    if isinstance(end, int):
        return os.fstat(end).st_mode
    try:
        return end.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _follow_links(path: Path) -> Path | int:
    """Return the end of a chain of symbolic links: a path, or the number of an open file."""
    link = path
    for _ in range(_MAX_LINKS):
        match = _DESCRIPTOR.fullmatch(os.path.abspath(link))
        if match is not None:
            return int(match[1] or match[2])
        if not link.is_symlink():
            return link
        link = Path(os.path.realpath(link.parent)) / link.readlink()
    raise OutputError(f"{path}: cannot be written: more than {_MAX_LINKS} symbolic links")


def _copy_to_target(source: Path, target: _Target) -> None:
    """Write the bytes of `source` to a device, a FIFO or an open file."""
    sys.stdout.flush()
    sys.stderr.flush()
    if target.descriptor is not None:
        sink = os.fdopen(os.dup(target.descriptor), "wb")
    else:
        assert target.device is not None
        sink = target.device.open("wb")
    with source.open("rb") as stream, sink:
        shutil.copyfileobj(stream, sink, 2**20)


def _write_error(path: str | Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written: {error.strerror or error}")
