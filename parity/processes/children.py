"""The parent's side of a child process: start it, ask it, and say plainly how it ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import parity
from parity import errors
from parity.errors import ChildError, InterpreterError, ParityError, RuntimeMissing
from parity.processes import probe
from parity.processes.subjects import of_child

TIMEOUT_S = 900.0
"""How long one request may take before the child is taken for hung."""

_STDERR_LINES = 12

_STATE = frozenset({"load", "read", "use_table", "assign"})
"""The operations that a child which is started again needs to be as it was."""


class Child:
    """One framework in a process of its own, which answers requests until it is told to stop.

    Requests and answers are JSON lines; arrays travel as files. What the framework prints goes to
    a log that is shown only when the child dies.
    """

    def __init__(
        self,
        runtime: str,
        *,
        python: str | None = None,
        timeout: float = TIMEOUT_S,
        gpu: bool = False,
    ):
        found = of_child(runtime)
        self.runtime = runtime
        self.python = python or sys.executable
        self.timeout = timeout
        self._kind = found.kind
        self._environment = _environment(own=probe.is_own(python), backend=found.backend, gpu=gpu)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # Frameworks leave files of their own in the temporary folder; these go with the child.
        self._scratch = tempfile.TemporaryDirectory(prefix="parity-", ignore_cleanup_errors=True)
        self._done: list[tuple[str, dict[str, Any]]] = []
        self._resting = self._over = False
        self._start()

    def _start(self) -> None:
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                [self.python, "-m", "parity.processes.worker", self._kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**self._environment, "TMPDIR": self._scratch.name},
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self._log.close()
            self._scratch.cleanup()
            raise RuntimeMissing(f"{self.runtime}: cannot start {self.python}: {error}") from error
        reader = threading.Thread(
            target=self._read, args=(self._process.stdout, self._answers), daemon=True
        )
        reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def hello(self) -> dict[str, Any]:
        """Who answers; raises `InterpreterError` for an interpreter that does not fit."""
        answer = self.call("hello")
        if answer["parity"] != parity.__version__:
            raise InterpreterError(
                probe.other_parity(self.runtime, self.python, str(answer["parity"]))
            )
        return answer

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises the `ParityError` that the child raised, `ChildError` when it died or outlived
        its time limit, and `RuntimeMissing` when its framework cannot be imported.
        """
        with self._lock:
            if self._resting and not self._over:
                self._resting = False
                self._start()
                if self._over:
                    # Killed meanwhile, when there was nothing to kill.
                    self._stop()
                for earlier, given in self._done:
                    self._ask(earlier, given)
            result = self._ask(operation, arguments)
            if operation in _STATE:
                self._done.append((operation, arguments))
        return result

    def rest(self) -> None:
        """End the process, which gives back all that it holds; the next call starts another.

        What made its state (the model, its table and weights) is done again there first.
        """
        with self._lock:
            if not self._resting:
                self._end()
                self._resting = True

    def _ask(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        identity = next(self._ids)
        request = {"id": identity, "op": operation, "args": arguments}
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._died(operation) from None
        answer = self._wait(operation)
        if answer["id"] != identity:
            raise ChildError(f"{self.runtime}: answered request {answer['id']}, not {identity}")
        if "error" in answer:
            raise _error_from(self.runtime, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """Ask the child to stop, and make sure that it has."""
        self._over = True
        self._end()
        self._log.close()
        self._scratch.cleanup()

    def _end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._stop()

    def kill(self) -> None:
        """End the child at once, and for good."""
        self._over = True
        self._stop()

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()

    @staticmethod
    def _read(stream: IO[str], answers: queue.SimpleQueue[str]) -> None:
        for line in stream:
            answers.put(line)
        answers.put("")

    def _wait(self, operation: str) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=self.timeout)
        except queue.Empty:
            self.kill()
            raise ChildError(
                f"{self.runtime}: no answer to '{operation}' within {self.timeout:g} s; "
                "the process was stopped"
            ) from None
        if not line:
            raise self._died(operation)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise ChildError(f"{self.runtime}: unreadable answer to '{operation}'") from None
        return answer

    def _died(self, operation: str) -> ParityError:
        try:
            code = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.returncode
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += ", perhaps for want of memory"
        tail = self._stderr_tail()
        if "No module named 'parity'" in tail or "No module named parity" in tail:
            return InterpreterError(probe.failing_subjects(self.runtime, self.python))
        end = f"; its last words: {tail}" if tail else ""
        return ChildError(f"{self.runtime}: the process died during '{operation}' ({how}){end}")

    def _stderr_tail(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, self._log.tell() - 8192))
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
            return " | ".join(line.strip() for line in lines[-_STDERR_LINES:] if line.strip())
        return ""


def _environment(*, own: bool, backend: str | None, gpu: bool) -> dict[str, str]:
    """The child's environment: no framework chatter, and in our own interpreter this `parity`.

    Another interpreter must have a `parity` of its own: our folder on its path could bring it
    packages that were built for this one. A child that needs no GPU does not see one, since a
    framework that sees it takes memory there and may compute there.
    """
    variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONSAFEPATH": "1"}
    # Idle OpenMP threads would spin on the cores that the other children compute on.
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    variables["KERAS_BACKEND"] = backend or "tensorflow"
    variables.update(_ON_GPU if gpu else _OFF_GPU)
    if own:
        here = str(Path(__file__).resolve().parents[2])
        path = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        variables["PYTHONPATH"] = os.pathsep.join(path)
    return variables


_OFF_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
_ON_GPU = {
    # Several frameworks share the card: none may take all of its memory.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # Deterministic algorithms; cuBLAS reads its setting once, when it starts.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TF_DETERMINISTIC_OPS": "1",
    "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
}


def python_of(child: str, python: Mapping[str, str]) -> str | None:
    """The interpreter of a child: its own, its environment's or its runtime's; None is ours."""
    found = of_child(child)
    for key in (child, found.environment, found.kind):
        if key is not None and key in python:
            return python[key]
    return None


def _error_from(runtime: str, error: dict[str, str]) -> ParityError:
    kind = getattr(errors, error["type"], None)
    if isinstance(kind, type) and issubclass(kind, ParityError):
        raised = kind(error["message"])
    else:
        raised = ChildError(f"{runtime}: {error['type']}: {error['message']}")
    raised.add_note(error.get("traceback", ""))
    return raised


class Children:
    """The children of one command: started together, closed together, whatever happens."""

    def __init__(
        self,
        *,
        python: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_S,
        gpu: bool = False,
    ):
        self._python = python or {}
        self._timeout = timeout
        self._gpu = gpu
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in self:
            if kind is not None:
                child.kill()
            child.close()

    def start(self, runtimes: Iterable[str]) -> None:
        """Start these children now, so that they import their frameworks side by side."""
        for runtime in runtimes:
            _ = self[runtime]

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children.values())

    def __getitem__(self, runtime: str) -> Child:
        """The child of this name (`subjects.child_name`), started now if it has not been."""
        # Both graphs' threads may be the first to ask for ONNX Runtime's.
        with self._lock:
            if runtime not in self._children:
                self._children[runtime] = Child(
                    runtime,
                    python=python_of(runtime, self._python),
                    timeout=self._timeout,
                    gpu=self._gpu,
                )
            return self._children[runtime]

    @contextlib.contextmanager
    def threads(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """Threads that ask these children; Ctrl-C ends the children first.

        A pool waits for its threads before it lets anybody go, and they wait for their answers.
        """
        with ThreadPoolExecutor(count) as pool:
            try:
                yield pool
            except KeyboardInterrupt:
                self.kill()
                raise

    def kill(self) -> None:
        """End every child at once, so that threads waiting for them come back."""
        for child in list(self):
            child.kill()
