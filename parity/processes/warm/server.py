"""The server of `parity warm`: it keeps spare children, and hands each of them out once."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import temporary
from parity.processes.subjects import parse_child_name
from parity.processes.variables import child_variables
from parity.processes.warm import identity, sockets

_CHECK_S = 0.5
"""Seconds between two checks of the time."""

_REST_S = 1.0
"""Seconds after the last use of a child until its successor is started: the command that has ended
its children still writes its reports."""

STARTING, READY, TAKEN, ENDING = "starting", "ready", "in use", "ending"
"""A child ends once its command has left it: the system still frees its memory."""


@dataclass
class _Spare:
    """One child: its process and the server's end of its control socket.

    `client` is the connection of the command that has taken it, which is told its exit code.
    """

    runtime: str
    key: str | None
    process: subprocess.Popen[bytes]
    control: socket.socket
    descriptor: int
    folder: tempfile.TemporaryDirectory[str]
    state: str = STARTING
    client: socket.socket | None = None


class Server:
    """The spare children of one installation.

    A child that is taken is never returned. Its successor is started when no child is in use: the
    cores are the command's until then.
    """

    def __init__(
        self, path: Path, installation: str, runtimes: Sequence[str], *, idle_s: float, gpu: bool
    ) -> None:
        self._path = path
        self._installation = installation
        self._runtimes = tuple(runtimes)
        self._idle_s = idle_s
        self._gpu = gpu
        self._spares: list[_Spare] = []
        self._refused: dict[str, str] = {}
        self._conditions: dict[str, dict[str, Any]] = {}
        """What the last spare of each runtime depends on."""
        self._clean: set[tuple[str, str | None]] = set()
        """The runtimes and keys whose import was seen to run no file of the user's."""
        self._last_use = time.monotonic()
        self._last_end = -_REST_S
        self._is_ending = False
        self._selector = selectors.DefaultSelector()
        self._listener = sockets.listen(path)
        self._inode = os.lstat(path).st_ino
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def serve(self) -> None:
        """Serve until the idle time is over, an end is asked for, or the installation changes.

        Then the spares end at once, and the server once no command's child is left.
        """
        try:
            while not self._is_ending:
                self._start_missing()
                self._handle_events()
                self._end_if_idle()
        finally:
            self._close()
        while self._spares:
            self._handle_events()

    def end(self) -> None:
        """End soon."""
        self._is_ending = True

    def _handle_events(self) -> None:
        for event, _ in self._selector.select(_CHECK_S):
            # An earlier event of the same round may have ended what this one is about.
            if event.fileobj in self._selector.get_map():
                event.data()

    # Spares --------------------------------------------------------------------------------------

    def _start_missing(self) -> None:
        if any(each.state == TAKEN for each in self._spares):
            return
        if time.monotonic() - self._last_end < _REST_S:
            return
        for runtime in self._runtimes:
            has_one = any(each.runtime == runtime and each.state != ENDING for each in self._spares)
            if not has_one and runtime not in self._refused:
                self._start(runtime)

    def _start(self, runtime: str) -> None:
        variables = child_variables(parse_child_name(runtime), own_interpreter=True, gpu=self._gpu)
        conditions = identity.read_child_conditions(runtime, variables)
        if conditions is None:
            self._refused[runtime] = "PYTHONPATH has a relative path"
            return
        self._conditions[runtime] = conditions
        key = identity.hash_conditions(conditions)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # What the framework's import leaves there is deleted with the child.
        folder = temporary.create_folder()
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "parity.processes.worker", runtime),
                    *("--control", str(theirs.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**variables, "TMPDIR": folder.name},
                pass_fds=[theirs.fileno()],
            )
        ours.settimeout(sockets.TIMEOUT_S)
        descriptor = os.pidfd_open(process.pid)
        spare = _Spare(runtime, key, process, ours, descriptor, folder)
        self._spares.append(spare)
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._reap(spare))
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(spare))

    def _hear(self, spare: _Spare) -> None:
        """Read that a spare is ready, or why it must not be used."""
        try:
            message, _ = sockets.receive(spare.control)
        except (EOFError, OSError, ValueError):
            # It has ended, or it was taken and has closed its end.
            self._forget_control(spare)
            return
        foreign = message.get("foreign") or []
        if foreign:
            self._refused[spare.runtime] = f"its import runs a file of yours, {foreign[0]}"
            if spare.state != TAKEN:
                spare.process.kill()
        else:
            self._clean.add((spare.runtime, spare.key))
            if spare.state == STARTING:
                spare.state = READY

    def _reap(self, spare: _Spare) -> None:
        """Tell the command how its child has ended, and delete what it left."""
        self._selector.unregister(spare.descriptor)
        os.close(spare.descriptor)
        code = spare.process.wait()
        self._forget_control(spare)
        if spare.client is not None:
            with contextlib.suppress(OSError):
                sockets.send(spare.client, {"exit": code})
            self._leave(spare)
        elif spare.state == STARTING and spare.runtime not in self._refused:
            # It would fail again and again.
            self._refused[spare.runtime] = f"it ended with exit code {code} while it started"
        spare.folder.cleanup()
        self._spares.remove(spare)

    def _leave(self, spare: _Spare) -> None:
        """Note that the command is done with its child: it has closed the connection, or ended."""
        assert spare.client is not None
        self._selector.unregister(spare.client)
        spare.client.close()
        spare.state, spare.client = ENDING, None
        self._last_use = self._last_end = time.monotonic()

    def _forget_control(self, spare: _Spare) -> None:
        if spare.control.fileno() != -1:
            self._selector.unregister(spare.control)
            spare.control.close()

    # Requests ------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.settimeout(sockets.TIMEOUT_S)
        descriptors: list[int] = []
        is_kept = False
        try:
            if sockets.peer_user(connection) != os.getuid():
                return
            message, descriptors = sockets.receive(connection, 3)
            if message["operation"] == "take":
                is_kept = self._take(connection, message, descriptors)
            elif message["operation"] == "stop":
                self._is_ending = True
                sockets.send(connection, self._describe())
            else:
                sockets.send(connection, self._describe())
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            # Whatever it was, the command starts its own child.
            pass
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            if not is_kept:
                connection.close()

    def _take(self, connection: socket.socket, message: Any, descriptors: Sequence[int]) -> bool:
        """Hand out a child with the files of its new standard streams; return whether it is."""
        self._last_use = time.monotonic()
        if identity.hash_installation(cached=False) != self._installation:
            # The code or a package has changed: what the spares have imported is of no use.
            self._is_ending = True
            return False
        spare = self._find(message["runtime"], message["key"])
        if spare is None or len(descriptors) != 3:
            return False
        attach = {name: message[name] for name in ("variables", "folder", "umask")}
        sockets.send(spare.control, attach, descriptors)
        spare.state = TAKEN
        sockets.send(connection, {"pid": spare.process.pid}, [spare.descriptor])
        spare.client = connection
        # A command sends nothing more: what can be read is the end.
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._leave(spare))
        return True

    def _find(self, runtime: str, key: str) -> _Spare | None:
        """Return a child that nobody has taken, one that is ready before one that starts."""
        if (runtime, key) not in self._clean or runtime in self._refused:
            return None
        free = [
            each
            for each in self._spares
            if (each.runtime, each.key) == (runtime, key)
            and each.state in (STARTING, READY)
            and each.control.fileno() != -1
        ]
        return min(free, key=lambda each: each.state != READY, default=None)

    def _describe(self) -> dict[str, Any]:
        left = self._idle_s - (time.monotonic() - self._last_use)
        wanted = [each for each in self._runtimes if each not in self._refused]
        return {
            "pid": os.getpid(),
            "installation": self._installation,
            # One without a child yet will have one soon.
            "children": {
                **dict.fromkeys(wanted, STARTING),
                **{each.runtime: each.state for each in self._spares if each.state != ENDING},
            },
            "refused": dict(self._refused),
            "conditions": self._conditions,
            "gpu": self._gpu,
            "ends_in_s": max(0.0, left),
        }

    # The end -------------------------------------------------------------------------------------

    def _end_if_idle(self) -> None:
        if any(each.state == TAKEN for each in self._spares):
            self._last_use = time.monotonic()
        if time.monotonic() - self._last_use > self._idle_s or not self._owns_socket():
            self._is_ending = True

    def _owns_socket(self) -> bool:
        """Return whether the socket is still this server's: somebody may have removed it."""
        try:
            return os.lstat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _close(self) -> None:
        """End the spares; children in use end with the commands that have them."""
        if self._owns_socket():
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._selector.unregister(self._listener)
        self._listener.close()
        for spare in list(self._spares):
            if spare.state != TAKEN:
                spare.process.kill()
                self._reap(spare)


def main(text: str) -> None:
    """Serve as the settings in this JSON text say."""
    settings = json.loads(text)
    # `parity warm` may be interrupted, or its terminal closed, and the server goes on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = Server(
        Path(settings["path"]),
        settings["installation"],
        settings["runtimes"],
        idle_s=settings["idle_s"],
        gpu=settings["gpu"],
    )
    signal.signal(signal.SIGTERM, lambda number, frame: server.end())
    server.serve()
