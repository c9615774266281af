"""ONNX Runtime in a child process: if it crashes, the caller gets an error and goes on."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.graph.mapping import read_without_tensors
from exporters.graph.serialization import DATA_SUFFIX

Array = NDArray[Any]

_MAPPED = 2**24
"""Bytes of a file from which on to map its tensors is faster than to read them."""

_LARGE = 2**27
"""Bytes of a file from which on the memory that a session takes matters."""

_SCRIPT = Path(__file__).with_name("session.py")


class SessionProcess:
    """One child process with at most one session; its methods raise ExportError."""

    def __init__(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._is_closing = False
        """Whether the answer to the last request, to close the session, was not read yet."""
        try:
            # -P: the script's own folder has modules whose names other packages use.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise ExportError(
                f"{sys.executable}: the process that runs ONNX Runtime cannot be started ({error})"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the child runs and this process, not one forked from it, has started it."""
        return self.owner == os.getpid() and self._process.poll() is None

    def load(self, path: Path) -> list[str]:
        """Open a session of a file and return the names of its outputs.

        The weights are mapped from the file, unless they are few: copies take time and memory.
        """
        data = path.with_name(path.name + DATA_SUFFIX)
        sizes = [each.stat().st_size for each in (path, data) if each.exists()]
        save_memory = sum(sizes) >= _LARGE
        message = b""
        if sizes and sizes[0] >= _MAPPED:
            message = read_without_tensors(path).SerializeToString()
        names = self._ask(("load", str(path), message, save_memory), "loading the file")
        return list(names)

    def run(self, feeds: Mapping[str, Array], activity: str) -> list[Array]:
        """Run the session that was opened last. `activity` completes "crashed while"."""
        return [np.asarray(array) for array in self._ask(("run", dict(feeds)), activity)]

    def release(self, *, wait: bool = True) -> None:
        """Close the session, so that its memory is free; the process stays.

        Without `wait` the next request waits for it.
        """
        if not self.alive:
            return
        with contextlib.suppress(ExportError):
            if wait:
                self._ask(("close",), "closing the session")
            else:
                with self._lock:
                    self._finish_closing()
                    self._send(("close",), "closing the session")
                    self._is_closing = True

    def settle(self) -> None:
        """Wait until a session that is being closed is closed; a process that dies of it is dead.

        It is no failure of what comes next.
        """
        with contextlib.suppress(ExportError), self._lock:
            self._finish_closing()

    def stop(self) -> None:
        """End the process."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    def _ask(self, request: tuple[object, ...], activity: str) -> Any:
        """Return the answer to a request; raises ExportError for an error answer or a crash."""
        with self._lock:
            self._finish_closing()
            self._send(request, activity)
            answer = self._receive(activity)
        if isinstance(answer, tuple) and answer and answer[0] == "error":
            raise ExportError(answer[1])
        return answer

    def _finish_closing(self) -> None:
        if self._is_closing:
            self._is_closing = False
            self._receive("closing the session")

    def _send(self, request: tuple[object, ...], activity: str) -> None:
        requests = self._process.stdin
        assert requests is not None
        try:
            pickle.dump(request, requests, protocol=pickle.HIGHEST_PROTOCOL)
            requests.flush()
        except OSError as error:
            raise self._describe_crash(activity) from error

    def _receive(self, activity: str) -> Any:
        answers = self._process.stdout
        assert answers is not None
        try:
            return pickle.load(answers)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise self._describe_crash(activity) from error

    def _describe_crash(self, activity: str) -> ExportError:
        return ExportError(
            f"ONNX Runtime crashed while {activity} ({self._describe_end()}), which is a fault of"
            " its own; another precision or opset may avoid it"
        )

    def _describe_end(self) -> str:
        """Return the name of the signal that ended the process, or its exit code."""
        code = self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"


_shared: SessionProcess | None = None


def start_shared_process() -> None:
    """Start the child that this process's exports share, unless one runs; wait for nothing."""
    global _shared
    if _shared is None or not _shared.alive:
        _shared = SessionProcess()


def get_shared_process() -> SessionProcess:
    """Return the child that this process's exports share; start it if none is alive."""
    if _shared is not None and _shared.alive:
        _shared.settle()
    start_shared_process()
    assert _shared is not None
    return _shared


@atexit.register
def _stop_shared_process() -> None:
    if _shared is not None and _shared.alive:
        _shared.stop()
