"""The parent's side of one child process: start it, send requests, describe how it ended."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from parity import temporary
from parity.errors import (
    ChildError,
    InterpreterError,
    NativeFaultError,
    ParityError,
    RequirementError,
    WeightError,
)
from parity.processes import probe
from parity.processes.interpreters import is_own_interpreter
from parity.processes.protocol import (
    GOODBYE,
    OperationRequest,
    OperationResponse,
    ProtocolError,
)
from parity.processes.subjects import parse_child_name
from parity.processes.variables import child_variables
from parity.processes.warm import client as warm
from parity.version import __version__

TIMEOUT_S = 900.0
"""How long one request may take; the child is then considered hung and is killed."""

_LOGGED = re.compile(r"[IW]\d{4,8} |WARNING: All log messages before absl::")
"""Lines of Abseil's log below an error, which say nothing of why a process died."""

_STDERR_LINES = 12

_END_S = 1.0
"""Seconds in which a child ends by itself after its input is closed."""

_ENDS = ("", GOODBYE)
"""The last line of a child's output: it was closed, or the child has said that it ends."""

_STATE_OPERATIONS = frozenset(
    {"load", "load_file", "load_structure", "load_weights", "load_reference", "use_table"}
)
"""The operations to repeat in a restarted child, so that it is in the same state."""


class Child:
    """One runtime in a process of its own, which answers requests until its input is closed.

    `name` is a child's name (`subjects.child_name`), `timeout` the seconds that one request may
    take, `gpu` whether the process may use a GPU. Requests and responses are JSON lines; arrays
    are files (`processes.protocol`). The framework's own output goes to a log, whose end is quoted
    if the child dies.
    """

    def __init__(
        self,
        name: str,
        *,
        python: str | None = None,
        timeout: float = TIMEOUT_S,
        gpu: bool = False,
    ):
        self.name = name
        self.python = python or sys.executable
        self.timeout = timeout
        self._gpu = gpu
        parts = parse_child_name(name)
        self._runtime = parts.runtime
        self._is_own_interpreter = is_own_interpreter(python)
        self._variables = child_variables(parts, own_interpreter=self._is_own_interpreter, gpu=gpu)
        self._identities = itertools.count(1)
        self._lock = threading.Lock()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # Frameworks leave temporary files behind; this folder is deleted with the child.
        self._temporary = temporary.create_folder()
        self._state_requests: list[tuple[str, Mapping[str, Any]]] = []
        self._is_suspended = self._is_closed = False
        self._process: subprocess.Popen[str] | warm.WarmProcess
        self._start()

    def _start(self) -> None:
        self._responses: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._begun: list[OperationRequest] = []
        variables = {**self._variables, "TMPDIR": self._temporary.name}
        process = None
        if self._is_own_interpreter:
            process = warm.take(self._runtime, variables, self._log)
        self._process = process or self._start_process(variables)
        reader = threading.Thread(
            target=_queue_lines, args=(self._process.stdout, self._responses), daemon=True
        )
        reader.start()

    def _start_process(self, variables: Mapping[str, str]) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                [self.python, "-m", "parity.processes.worker", self._runtime],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=variables,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self._log.close()
            self._temporary.cleanup()
            raise RequirementError(f"{self.name}: cannot start {self.python}: {error}") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def hello(self) -> dict[str, Any]:
        """Return the child's versions; raises `InterpreterError` for another version of parity."""
        answer = self.call("hello")
        if answer["parity"] != __version__:
            raise InterpreterError(
                probe.describe_other_parity(
                    self.name, self._runtime, self.python, str(answer["parity"])
                )
            )
        return answer

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and return the result in its response.

        Raises the `ParityError` that the child raised, `ChildError` if it died or exceeded its
        time limit, `UnsupportedRequestError` if its runtime lacks the operation, and
        `RequirementError` if its framework cannot be imported.
        """
        with self._lock:
            if self._is_suspended and not self._is_closed:
                self._resume()
            result = self._send(operation, arguments)
            if operation in _STATE_OPERATIONS:
                self._state_requests.append((operation, arguments))
        return result

    def begin(self, operation: str, **arguments: Any) -> None:
        """Send a request early; the next `call` of it waits for this one's response.

        A call of anything else first waits for the requests that were begun, and drops their
        responses. A process that has died is reported by the call.
        """
        with self._lock:
            if self._is_suspended or self._is_closed:
                return
            request = OperationRequest(next(self._identities), operation, arguments)
            with contextlib.suppress(OSError, ValueError):
                self._write(request)
                self._begun.append(request)

    def reset(self) -> None:
        """Make the process forget its model; the frameworks that it has imported stay.

        Raises as `call` does.
        """
        with self._lock:
            self._state_requests.clear()
            if not (self._is_suspended or self._is_closed):
                self._send("reset", {})

    def suspend(self) -> None:
        """End the process, which frees its memory; the next call starts a new one.

        The new process first repeats the operations that set the state: model, table, weights.
        """
        with self._lock:
            if not self._is_suspended:
                self._end()
                self._wait_for_exit()
                self._is_suspended = True

    def _resume(self) -> None:
        self._is_suspended = False
        self._start()
        if self._is_closed:
            # `kill` was called while there was no process.
            self._stop()
        for operation, arguments in self._state_requests:
            self._send(operation, arguments)

    def _send(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        request = self._find_begun(operation, arguments)
        if request is None:
            request = OperationRequest(next(self._identities), operation, arguments)
            try:
                self._write(request)
            except (OSError, ValueError):
                raise self._describe_death(operation) from None
        response = self._receive(operation)
        if response.identity != request.identity:
            raise ChildError(
                f"{self.name}: answered request {response.identity}, not {request.identity}"
            )
        if response.failure is not None:
            raise response.failure.to_exception(self.name)
        return dict(response.result)

    def _write(self, request: OperationRequest) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(request.to_line())
        self._process.stdin.flush()

    def _find_begun(self, operation: str, arguments: Mapping[str, Any]) -> OperationRequest | None:
        """Return the request that was begun, if it is this one; wait for those that are not."""
        while self._begun:
            request = self._begun.pop(0)
            if request.operation == operation and dict(request.arguments) == dict(arguments):
                return request
            self._receive(request.operation)
        return None

    def close(self) -> None:
        """End the child by closing its input, kill it if it does not end, delete its files.

        The system frees the memory of a large process in a third of a second, which nobody waits
        for; a GPU's memory, of which the next child may need all, is waited for.
        """
        self._is_closed = True
        self._end()
        if self._gpu:
            self._wait_for_exit()
        elif isinstance(self._process, warm.WarmProcess):
            self._process.release()
        else:
            threading.Thread(target=self._process.wait, daemon=True).start()
        self._log.close()
        self._temporary.cleanup()

    def close_input(self) -> None:
        """Let the child end, without waiting for it; `close` must follow."""
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _end(self) -> None:
        """Let the child end, and return once it does nothing any more; kill it after a second."""
        self.close_input()
        if self._process.returncode is not None:
            return
        end = time.monotonic() + _END_S
        try:
            while self._responses.get(timeout=max(0.0, end - time.monotonic())) not in _ENDS:
                pass
        except queue.Empty:
            self._stop()

    def _wait_for_exit(self) -> None:
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._stop()

    def kill(self) -> None:
        """Kill the process immediately; the child cannot be used afterwards."""
        self._is_closed = True
        self._stop()

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()

    def _receive(self, operation: str) -> OperationResponse:
        try:
            line = self._responses.get(timeout=self.timeout)
        except queue.Empty:
            self.kill()
            raise ChildError(
                f"{self.name}: no answer to '{operation}' within {self.timeout:g} s; "
                "the process was stopped"
            ) from None
        if not line:
            raise self._describe_death(operation)
        try:
            return OperationResponse.from_line(line)
        except ProtocolError as error:
            raise ChildError(f"{self.name}: unreadable answer to '{operation}': {error}") from None

    def _describe_death(self, operation: str) -> ParityError:
        """Return the error of a process that has ended during an operation, with its exit code."""
        try:
            code = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        how = "exit code unknown" if code == warm.LOST else f"exit code {code}"
        if code < 0:
            how = f"signal {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += ", possibly out of memory"
        tail = self._stderr_tail()
        if "No module named 'parity'" in tail or "No module named parity" in tail:
            return InterpreterError(
                probe.describe_missing_parity(self.name, self._runtime, self.python)
            )
        output = f"; its last output: {tail}" if tail else ""
        made = NativeFaultError if -code in _FAULTS else ChildError
        return made(f"{self.name}: the process died during '{operation}' ({how}){output}")

    def _stderr_tail(self) -> str:
        """Return the last lines that the child wrote to standard error, on one line."""
        with contextlib.suppress(OSError, ValueError):
            self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, self._log.tell() - 8192))
            lines = self._log.read().decode("utf-8", "replace").splitlines()
            told = [line.strip() for line in lines if line.strip() and not _LOGGED.match(line)]
            return " | ".join(told[-_STDERR_LINES:])
        return ""


_FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE})
"""The signals by which native code ends at data that it does not expect; it aborts for other
reasons, too, such as memory."""


@contextlib.contextmanager
def refuse_crashing_file(path: str | Path) -> Iterator[None]:
    """While open, a child that crashes has read a damaged file: raise `WeightError` with its name.

    The libraries that read files of frameworks are native code, and some crash at damaged ones.
    """
    try:
        yield
    except NativeFaultError as error:
        raise WeightError(f"{path}: is damaged; {error}") from error


def _queue_lines(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    """Queue the lines of a stream, and an empty one at its end."""
    for line in stream:
        lines.put(line)
    lines.put("")
