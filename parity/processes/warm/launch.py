"""Start, ask and stop the servers of this user's warm children."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity.errors import ChildError, UsageError
from parity.processes.subjects import parse_child_name
from parity.processes.variables import child_variables
from parity.processes.warm import identity, sockets

_START_S = 30.0
"""Seconds that a server has to listen."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server: its children by runtime, and when it ends if it is not used.

    `children` are "starting", "ready" or "in use"; `refused` says why a runtime has none. A server
    that is not `current` serves another version, environment or interpreter of parity.
    `differences` name what this process, and so its commands, have otherwise than the children of
    a current one, which are then not taken: environment variables, files, limits.
    """

    pid: int
    current: bool
    children: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    ends_in_s: float = 0.0
    differences: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether no child is starting."""
        return "starting" not in self.children.values()


def require_support() -> None:
    """Raise `UsageError` on a system without warm children."""
    if not sockets.is_supported():
        raise UsageError("warm children need Linux; every command works without them")


def start_server(runtimes: Sequence[str], *, idle_s: float, gpu: bool) -> None:
    """Start the server of this installation and wait until it listens.

    Raises `UsageError` for a folder that is not private, `ChildError` if the server does not start.
    """
    folder = sockets.find_folder(create=True)
    assert folder is not None
    installation = identity.hash_installation()
    path = sockets.socket_path(folder, installation)
    _remove_dead(path)
    settings = {
        "path": str(path),
        "installation": installation,
        "runtimes": list(runtimes),
        "idle_s": idle_s,
        "gpu": gpu,
    }
    root = str(Path(__file__).resolve().parents[3])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from parity.processes.warm import server; server.main(sys.argv[2])"
    )
    log = path.with_suffix(".log")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(log, flags, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, root, json.dumps(settings)],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if _ask(path, "status") is not None:
            return
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
            raise ChildError(f"the server of the warm children did not start: {lines[-1]}")
        time.sleep(0.05)
    process.kill()
    raise ChildError(f"the server of the warm children did not start within {_START_S:g} s")


def find_servers() -> list[ServerStatus]:
    """Return all servers of this user. Raises `UsageError` for a folder that is not private."""
    return [_read_status(answer) for _, answer in _ask_all("status")]


def stop_servers() -> list[ServerStatus]:
    """End all servers of this user, and return them as they were; children in use go on."""
    stopped = []
    for path, answer in _ask_all("stop"):
        stopped.append(_read_status(answer))
        _wait_until_gone(path)
    return stopped


def stop_server() -> None:
    """End the server of this installation; children in use go on."""
    folder = sockets.find_folder()
    if folder is not None:
        path = sockets.socket_path(folder, identity.hash_installation())
        _ask(path, "stop")
        _wait_until_gone(path)


def _wait_until_gone(path: Path) -> None:
    end = time.monotonic() + sockets.TIMEOUT_S
    while os.path.lexists(path) and time.monotonic() < end:
        time.sleep(0.02)


def _ask_all(operation: str) -> Iterator[tuple[Path, Any]]:
    folder = sockets.find_folder()
    for path in sorted(folder.glob("warm-*.sock")) if folder is not None else ():
        answer = _ask(path, operation)
        if answer is None:
            _remove_dead(path)
        else:
            yield path, answer


def _ask(path: Path, operation: str) -> Any:
    """Return a server's answer; None if none listens."""
    connection = sockets.connect(path)
    if connection is None:
        return None
    with connection, contextlib.suppress(EOFError, OSError, ValueError):
        sockets.send(connection, {"operation": operation})
        return sockets.receive(connection)[0]
    return None


def _remove_dead(path: Path) -> None:
    """Remove the socket of a server that was killed. Raises `UsageError` if one listens there."""
    if not os.path.lexists(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(sockets.TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError:
            pass


def _read_status(answer: Any) -> ServerStatus:
    is_current = answer["installation"] == identity.hash_installation()
    return ServerStatus(
        pid=int(answer["pid"]),
        current=is_current,
        differences=tuple(_list_differences(answer)) if is_current else (),
        children=dict(answer["children"]),
        refused=dict(answer["refused"]),
        ends_in_s=float(answer["ends_in_s"]),
    )


def _list_differences(answer: Any) -> list[str]:
    """Return what a command of this process has otherwise than the children of a server."""
    found: set[str] = set()
    for runtime, conditions in answer["conditions"].items():
        variables = child_variables(
            parse_child_name(runtime), own_interpreter=True, gpu=bool(answer["gpu"])
        )
        own = identity.read_child_conditions(runtime, variables)
        if own is None:
            return ["variable PYTHONPATH, which has a relative path here"]
        found.update(identity.list_differences(own, conditions))
    return sorted(found)
