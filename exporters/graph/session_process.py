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
from collections import deque
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

_SMALLEST_PIPE = 2**12
"""Bytes that a pipe takes while nobody reads it, where the system does not say how many."""

_SCRIPT = Path(__file__).with_name("session.py")


class Answer:
    """The answer to a request that was sent; the child works on it in the meantime."""

    def __init__(self, process: SessionProcess, activity: str, size: int) -> None:
        """`activity` completes "crashed while"; `size` is that of the request in bytes."""
        self.activity = activity
        self.size = size
        self.is_read = False
        self.value: Any = None
        self.error: ExportError | None = None
        self._process = process

    def result(self) -> Any:
        """Wait for the answer and return it. Raises ExportError for an error and for a crash."""
        self._process.read_until(self)
        if self.error is not None:
            raise self.error
        return self.value


class SessionProcess:
    """One child process with at most one session; its methods raise ExportError.

    Requests are answered in order: an answer is read after those of earlier requests.
    """

    def __init__(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self.owner = os.getpid()
        self._lock = threading.RLock()
        self._unread: deque[Answer] = deque()
        self._ahead = _SMALLEST_PIPE
        """Bytes of requests that are sent before the answers to those ahead of them are read: no
        more than the pipe takes, so that none waits for a child that waits for its reader."""
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
        assert self._process.stdin is not None
        self._ahead = _find_capacity(self._process.stdin.fileno()) // 2

    @property
    def alive(self) -> bool:
        """Whether the child runs and this process, not one forked from it, has started it."""
        return self.owner == os.getpid() and self._process.poll() is None

    def load(self, path: Path) -> list[str]:
        """Open a session of a file and return the names of its outputs."""
        return list(self.start_loading(path).result())

    def start_loading(self, path: Path) -> Answer:
        """Have a session of a file opened; the answer is the names of its outputs.

        The weights are mapped from the file, unless they are few: copies take time and memory.
        Raises ExportError for a large file that is no ONNX model.
        """
        data = path.with_name(path.name + DATA_SUFFIX)
        sizes = [each.stat().st_size for each in (path, data) if each.exists()]
        save_memory = sum(sizes) >= _LARGE
        message = b""
        if sizes and sizes[0] >= _MAPPED:
            message = read_without_tensors(path).SerializeToString()
        return self._send(("load", str(path), message, save_memory), "loading the file")

    def run(self, feeds: Mapping[str, Array], activity: str) -> list[Array]:
        """Run the session that was opened last. `activity` completes "crashed while"."""
        return [np.asarray(array) for array in self.start_running(feeds, activity).result()]

    def start_running(self, feeds: Mapping[str, Array], activity: str) -> Answer:
        """Have the session that was opened last run; the answer is the list of its outputs."""
        return self._send(("run", dict(feeds)), activity)

    def release(self, *, wait: bool = True) -> None:
        """Close the session, so that its memory is free; the process stays.

        Without `wait` the next request waits for it.
        """
        if not self.alive:
            return
        with contextlib.suppress(ExportError):
            answer = self._send(("close",), "closing the session")
            if wait:
                answer.result()

    def settle(self) -> None:
        """Wait until a session that is being closed is closed; a process that dies of it is dead.

        It is no failure of what comes next.
        """
        with self._lock:
            if self._unread:
                self.read_until(self._unread[-1])

    def stop(self) -> None:
        """End the process."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    def _send(self, request: tuple[object, ...], activity: str) -> Answer:
        """Send a request, without waiting for its answer; a dead process is an error of that."""
        requests = self._process.stdin
        assert requests is not None
        message = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
        answer = Answer(self, activity, len(message))
        with self._lock:
            if sum(each.size for each in self._unread) + len(message) > self._ahead:
                self.settle()
            try:
                requests.write(message)
                requests.flush()
            except OSError:
                answer.error = self._describe_crash(activity)
                answer.is_read = True
            else:
                self._unread.append(answer)
        return answer

    def read_until(self, answer: Answer) -> None:
        """Read the answers up to one; what an error or a crash was is in each of them."""
        with self._lock:
            while not answer.is_read:
                first = self._unread.popleft()
                first.is_read = True
                try:
                    value = self._receive()
                except (OSError, EOFError, pickle.UnpicklingError):
                    first.error = self._describe_crash(first.activity)
                    continue
                except BaseException:
                    self.stop()  # the rest of an answer would be read as the next one
                    raise
                if isinstance(value, tuple) and value and value[0] == "error":
                    first.error = ExportError(value[1])
                else:
                    first.value = value

    def _receive(self) -> Any:
        answers = self._process.stdout
        assert answers is not None
        return pickle.load(answers)

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


def _find_capacity(descriptor: int) -> int:
    """Return how many bytes a pipe takes while nobody reads it."""
    with contextlib.suppress(ImportError, AttributeError, OSError):  # another system than Linux
        import fcntl

        return max(fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ), _SMALLEST_PIPE)
    return _SMALLEST_PIPE


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
