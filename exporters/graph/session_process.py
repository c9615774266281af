"""ONNX Runtime in a process of its own: a crash there costs a message, not the caller's process."""

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

Array = NDArray[Any]

_SCRIPT = Path(__file__).with_name("session.py")


class SessionProcess:
    """One child process with at most one session; its methods raise ExportError."""

    def __init__(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self.owner = os.getpid()
        self._lock = threading.Lock()
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
        """Return whether the process can still be asked by this process."""
        return self.owner == os.getpid() and self._process.poll() is None

    def load(self, path: Path) -> list[str]:
        """Open a session of a file and return the names of its outputs."""
        names = self._ask(("load", str(path)), "loading the file")
        return list(names)

    def run(self, feeds: Mapping[str, Array], purpose: str) -> list[Array]:
        """Run the session that was opened last. `purpose` completes "crashed while"."""
        return [np.asarray(array) for array in self._ask(("run", dict(feeds)), purpose)]

    def release(self) -> None:
        """Close the session, so that its memory is free; the process stays."""
        if self.alive:
            with contextlib.suppress(ExportError):
                self._ask(("close",), "closing the session")

    def stop(self) -> None:
        """End the process."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    def _ask(self, request: tuple[object, ...], purpose: str) -> Any:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        with self._lock:
            try:
                pickle.dump(request, requests, protocol=pickle.HIGHEST_PROTOCOL)
                requests.flush()
                answer = pickle.load(answers)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                raise ExportError(
                    f"ONNX Runtime crashed while {purpose} ({self._describe_end()}), which is a"
                    " fault of its own; another precision or opset may avoid it"
                ) from error
        if isinstance(answer, tuple) and answer and answer[0] == "error":
            raise ExportError(answer[1])
        return answer

    def _describe_end(self) -> str:
        code = self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"


_warm: SessionProcess | None = None


def warm_process() -> SessionProcess:
    """Return the one process that stays for later exports; start it if there is none."""
    global _warm
    if _warm is None or not _warm.alive:
        _warm = SessionProcess()
    return _warm


@atexit.register
def _stop_warm_process() -> None:
    if _warm is not None and _warm.alive:
        _warm.stop()
