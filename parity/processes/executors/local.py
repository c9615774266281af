"""The executor of this machine: processes that take tasks, each with children of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from parity.processes.executors.tasks import MEMORY, Task, TaskOutcome, load_name
from parity.processes.variables import thread_variables

ATTEMPTS = 2
"""How often a task is tried whose process dies, which may have run out of memory."""

_END_S = 5.0
"""Seconds that a process has to end its children."""


class LocalExecutor:
    """Runs tasks in up to `count` processes, each with `threads` threads.

    `factory` names the class of the runner, `module:name`. By default there are as many processes
    as the cores and the free memory allow. With `threads` 0 there is no limit of threads.
    """

    def __init__(self, factory: str, *, threads: int = 1, count: int | None = None) -> None:
        self._factory = factory
        self._threads = threads
        self._count = count or count_processes(threads)
        self._servers: list[_Server] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.stop()
        for server in self._servers:
            server.join()
        self._servers.clear()

    def list_machines(self, describe: str) -> list[Any]:
        """Return what the function `describe` returns here."""
        return [load_name(describe)()]

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskOutcome]:
        """Run the tasks; see `Executor.run`."""
        pending = _Pending(tasks)
        attempts: Counter[str] = Counter()
        while pending or any(server.task for server in self._servers):
            self._assign(pending)
            busy = {server.connection: server for server in self._servers if server.task}
            for connection in wait(list(busy)):
                server = busy[connection]  # type: ignore[index]
                task = server.task
                assert task is not None
                outcome = server.receive()
                if outcome is None:
                    self._servers.remove(server)
                    attempts[task.key] += 1
                    if attempts[task.key] < ATTEMPTS:
                        pending.return_task(task)
                        continue
                    outcome = TaskOutcome(task.key, problem=server.describe_death())
                yield outcome

    def _assign(self, pending: _Pending) -> None:
        """Give every idle process a task; start processes while there are more tasks."""
        for server in self._servers:
            if server.task is None and pending:
                server.send(pending.take(server.affinity, self._affinities()))
        while pending and len(self._servers) < self._count:
            server = _Server(self._factory, self._threads)
            self._servers.append(server)
            server.send(pending.take(None, self._affinities()))

    def _affinities(self) -> set[Hashable]:
        return {server.affinity for server in self._servers}


class _Pending:
    """The tasks that wait, by affinity."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._queues: dict[Hashable, deque[Task]] = {}
        for task in tasks:
            self._queues.setdefault(task.affinity, deque()).append(task)

    def __bool__(self) -> bool:
        return bool(self._queues)

    def take(self, affinity: Hashable, taken: set[Hashable]) -> Task:
        """Return a task of this affinity; else of one that no process has, else the most common."""
        if affinity not in self._queues:
            others = [each for each in self._queues if each not in taken] or list(self._queues)
            affinity = max(others, key=lambda each: len(self._queues[each]))
        queue = self._queues[affinity]
        task = queue.popleft()
        if not queue:
            del self._queues[affinity]
        return task

    def return_task(self, task: Task) -> None:
        """Put back a task whose process has died."""
        self._queues.setdefault(task.affinity, deque()).append(task)


class _Server:
    """One process and the task that it runs, if any."""

    def __init__(self, factory: str, threads: int) -> None:
        own, other = socket.socketpair()
        root = str(Path(__file__).resolve().parents[3])
        inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *inherited])}
        if threads:
            variables |= thread_variables(threads)
        with other:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "parity.processes.executors.server"),
                    *(str(other.fileno()), factory),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env=variables,
            )
        self.connection: Connection = Connection(own.detach())
        self.task: Task | None = None
        self.affinity: Hashable = None

    def send(self, task: Task) -> None:
        self.task, self.affinity = task, task.affinity
        # A process that has died is noticed when its outcome is read.
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def receive(self) -> TaskOutcome | None:
        """Return the outcome of the task; None if the process has died."""
        self.task = None
        try:
            outcome: TaskOutcome = self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            self.join()
            return None
        return outcome

    def describe_death(self) -> str:
        code = self._process.returncode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += ", possibly out of memory"
        return f"the process that ran it died {ATTEMPTS} times ({how})"

    def stop(self) -> None:
        """Ask the process to end, with its children."""
        self.connection.close()
        if self._process.poll() is None:
            self._process.terminate()

    def join(self) -> None:
        """Wait until the process has ended, and kill it if it does not."""
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def count_processes(threads: int) -> int:
    """Return how many tasks this machine runs side by side: what its cores and memory allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    by_cores = (cores or 1) // max(threads, 1) if threads else 1
    return max(1, min(by_cores, _free_memory() // MEMORY))


def _free_memory() -> int:
    """Return the bytes of memory that can be used, or a number too large to matter."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 2**62
