"""Take a warm child instead of starting one: the same pipes, log, folder, signals and exit code."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from parity.errors import UsageError
from parity.processes.warm import sockets

LOST = 1 << 16
"""The return code of a process whose exit code nobody knows, since the server has ended."""


class WarmProcess:
    """A process that was taken from the server, with what `subprocess.Popen` has of one.

    `stdin` and `stdout` are its pipes, as text. Its exit code comes from the server, whose child
    it is; signals go to the process itself. Several threads may use it.
    """

    def __init__(
        self,
        pid: int,
        descriptor: int,
        connection: socket.socket,
        stdin: IO[str],
        stdout: IO[str],
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.returncode: int | None = None
        self._descriptor = descriptor
        self._connection = connection
        self._waiting = threading.Lock()
        """Held by the one thread that may read the exit code, and then close."""
        self._ending = threading.Lock()
        """Held while the descriptor is used or closed: its number may become another file's."""

    def kill(self) -> None:
        """Kill the process; nothing happens if it has ended."""
        with self._ending:
            if self.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def release(self) -> None:
        """Leave the process, which ends, to the server: its exit code is not asked for.

        A thread that waits for it goes on waiting.
        """
        if self._waiting.acquire(blocking=False):
            try:
                self._set_exit(LOST)
            finally:
                self._waiting.release()

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raises `subprocess.TimeoutExpired`."""
        end = None if timeout is None else time.monotonic() + timeout
        if not self._waiting.acquire(timeout=-1 if timeout is None else timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired("a warm child", timeout)
        try:
            while self.returncode is None:
                left = None if end is None else max(0.0, end - time.monotonic())
                ready, _, _ = select.select([self._connection], [], [], left)
                if not ready:
                    assert timeout is not None
                    raise subprocess.TimeoutExpired("a warm child", timeout)
                self._read_exit(end)
            return self.returncode
        finally:
            self._waiting.release()

    def _read_exit(self, end: float | None) -> None:
        """Read the exit code; wait for the process itself if the server has ended."""
        try:
            message, _ = sockets.receive(self._connection)
            code = int(message["exit"])
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            left = None if end is None else max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self._descriptor], [], [], left)
            if not ready:
                assert left is not None
                raise subprocess.TimeoutExpired("a warm child", left) from None
            code = LOST
        self._set_exit(code)

    def _set_exit(self, code: int) -> None:
        """Set the exit code, once, and close what it came by."""
        with self._ending:
            if self.returncode is None:
                self.returncode = code
                self._connection.close()
                os.close(self._descriptor)


def take(runtime: str, variables: Mapping[str, str], log: IO[bytes]) -> WarmProcess | None:
    """Return a warm child of a runtime; None if no server has one that is the same.

    `variables` are all environment variables that it would be started with, `log` is its standard
    error.
    """
    connection = _find_server()
    if connection is None:
        return None
    # Not at the top: only Linux has what it needs.
    from parity.processes.warm import identity

    key = identity.hash_child(runtime, variables)
    if key is None:
        connection.close()
        return None
    # Both ends are this process's until the server has the child's.
    child_stdin, stdin = os.pipe()
    stdout, child_stdout = os.pipe()
    request = {
        "operation": "take",
        "runtime": runtime,
        "key": key,
        "variables": dict(variables),
        "folder": os.getcwd(),
        "umask": _read_umask(),
    }
    answer: Any = None
    descriptors: list[int] = []
    try:
        sockets.send(connection, request, [child_stdin, child_stdout, log.fileno()])
        answer, descriptors = sockets.receive(connection, 1)
        pid = int(answer["pid"])
        connection.settimeout(None)
        return WarmProcess(
            pid,
            descriptors[0],
            connection,
            os.fdopen(stdin, "w", encoding="utf-8"),
            os.fdopen(stdout, "r", encoding="utf-8"),
        )
    except (EOFError, OSError, ValueError, KeyError, TypeError, IndexError):
        for descriptor in (stdin, stdout, *descriptors):
            os.close(descriptor)
        connection.close()
        return None
    finally:
        os.close(child_stdin)
        os.close(child_stdout)


def _find_server() -> socket.socket | None:
    """Return a connection to the server of this installation; None without one.

    A folder that is not private is none: somebody else may have made it.
    """
    if not sockets.is_supported():
        return None
    try:
        folder = sockets.find_folder()
    except UsageError:
        return None
    if folder is None or not any(folder.glob("warm-*.sock")):
        return None
    from parity.processes.warm import identity

    return sockets.connect(sockets.socket_path(folder, identity.hash_installation()))


def _read_umask() -> int:
    """Return this process's mask of permissions without changing it."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
