"""The names of temporary files and folders, which state their owner, and the removal of orphans.

A process that is killed leaves what it was writing. The name of each temporary file says on which
host, in which boot and by which process it was made, so that a later run can tell that the owner is
gone. Process numbers mean something in one process-number namespace alone: two containers that
share a volume may have the same ones, so the namespace is a part of the boot's identity.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOREIGN_S = 24 * 3600.0
"""Seconds after which something of another host, boot or namespace is an orphan: its process cannot
be looked up here, but nothing is written for so long without a change."""

_NAME = re.compile(r"\.?parity-([0-9a-f]{8}-[0-9a-f]{8})-(\d+)-(\d+)-[^.]+(\..+)?", re.DOTALL)
_LONGEST_NAME = 255
"""Bytes of a file's name on Linux's file systems."""


def owned_prefix(*, hidden: bool = True) -> str:
    """Return how a name begins that this process owns: host, boot, process number, start."""
    pid = os.getpid()
    return f"{'.' if hidden else ''}parity-{_machine()}-{pid}-{_start_time(pid) or 0}-"


def name_beside(target: Path) -> Path:
    """Return a new owned name in the target's folder, which ends as the target's name does."""
    prefix = f"{owned_prefix()}{os.urandom(6).hex()}."
    name = os.fsencode(target.name)[-(_LONGEST_NAME - len(prefix)) :]
    return target.with_name(prefix + name.decode(errors="ignore"))


@contextmanager
def working_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, deleted at the end, in `parent` or the folder for temporary files.

    Orphans there are removed first.
    """
    with create_folder(parent) as name:
        yield Path(name)


def create_folder(parent: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """Return a new owned folder in `parent` or the folder for temporary files; see `sweep`."""
    sweep_once(parent or Path(tempfile.gettempdir()))
    prefix = owned_prefix(hidden=parent is not None)
    return tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of parity in `folder` whose owner is gone.

    Those of other users stay, and errors are ignored.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None:
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == os.getuid() and _is_orphan(match, entry.path, status):
                    _remove(entry.path, status)


@contextmanager
def swept(folder: Path) -> Iterator[None]:
    """Sweep a folder before and after what a child process writes in it."""
    sweep_once(folder)
    try:
        yield
    finally:
        sweep(folder)


def sweep_once(folder: Path) -> None:
    """Do as `sweep`, once in the life of this process for each folder."""
    _sweep_once(os.path.abspath(folder), os.getpid())


def is_temporary(name: str) -> bool:
    """Return whether a file's name is one of `owned_prefix`, of whatever process."""
    return _NAME.fullmatch(name) is not None


@functools.cache
def _sweep_once(folder: str, pid: int) -> None:
    sweep(Path(folder))


def _remove(path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def _is_orphan(match: re.Match[str], path: str, status: os.stat_result) -> bool:
    machine, pid, start = match[1], int(match[2]), int(match[3])
    if machine == _machine():
        return not _is_alive(pid, start)
    return time.time() - _last_change(path, status) > FOREIGN_S


def _is_alive(pid: int, start: int) -> bool:
    """Return whether the process lives that had this number when it started at `start`."""
    if _start_time(os.getpid()) is not None:
        return _start_time(pid) == start
    # A system without /proc: whoever has the number now is taken for the owner.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _last_change(path: str, status: os.stat_result) -> float:
    """Return the time of the last change of a file, or of a folder and what is directly in it."""
    times = [status.st_mtime]
    if stat.S_ISDIR(status.st_mode):
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            times += [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
    return max(times)


@functools.cache
def _machine() -> str:
    """Return the identity of the host and of its boot with the process-number namespace."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    with contextlib.suppress(OSError):
        boot += os.readlink("/proc/self/ns/pid")
    host = f"{socket.gethostname()} {_read('/etc/machine-id')}"
    return f"{_digest(host)}-{_digest(boot)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(path: str) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="utf-8")
    return ""


def _start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None if there is none.

    Field 22 of /proc/PID/stat; the command in field 2 may hold spaces and parentheses. A process
    that has ended and was not waited for yet counts as gone.
    """
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) >= 20 and fields[0] not in "ZX" else None
