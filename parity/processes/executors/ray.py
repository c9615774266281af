"""The executor of a Ray cluster: every task is a Ray task, retried where its node is lost.

The nodes get this `parity` as Ray's runtime environment, which Ray names by the hash of its files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import parity
from parity import temporary
from parity.defaults import THREADS_VARIABLE
from parity.errors import RequirementError
from parity.processes.executors.server import run_task
from parity.processes.executors.tasks import Task, TaskOutcome, TaskRunner, create_runner, load_name
from parity.processes.origin import install_command
from parity.processes.variables import thread_variables

RETRIES = 5
"""How often a task is started again whose node or process was lost."""

_CONNECT_S = 5.0
"""Seconds in which a cluster must answer."""

_MACHINES_S = 120.0
"""Seconds in which the nodes must say what they are."""

_RESOURCES_S = 5.0
"""Seconds for which the number of the cluster's cores is taken to be the same."""

_THREADS_OF_RAY = "OMP_NUM_THREADS"
"""Ray sets it in its processes, to the cores of a task."""

_NICENESS_OF_RAY = "RAY_worker_niceness"


class RayExecutor:
    """Runs tasks on a cluster, `threads` cores each; with `threads` 0 a task has a whole node.

    `address` is that of a running cluster; without one a cluster is started on this machine, with
    room for `count` tasks, and ended at the end. `factory` names the class of the runner. Raises
    `RequirementError` where Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(
        self,
        factory: str,
        *,
        address: str | None = None,
        threads: int = 1,
        count: int | None = None,
    ) -> None:
        self._factory = factory
        self._address = address
        self._threads = threads
        self._count = count
        self._ray = _import_ray()
        self._remote = self._ray.remote(max_retries=RETRIES)(_run_in_worker)
        self._pending: dict[Any, Task] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            code = stack.enter_context(_stage_code())
            variables = thread_variables(self._threads) if self._threads else {}
            self._connect({"working_dir": str(code), "env_vars": variables})
            stack.callback(self._ray.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for reference in self._pending:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        self._pending.clear()
        self._stack.close()

    def _connect(self, environment: dict[str, Any]) -> None:
        settings: dict[str, Any] = {
            "runtime_env": environment,
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
        }
        if self._address is None:
            cores = self._count and self._count * max(self._threads, 1)
            # Ray would run tasks at the niceness 15, behind everything else on this machine.
            os.environ.setdefault(_NICENESS_OF_RAY, "0")
            settings |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
        else:
            _require_reachable(self._address)
            settings |= {"address": self._address}
        try:
            with _keep_handlers():
                self._ray.init(**settings)
        except Exception as error:
            where = self._address or "a cluster on this machine"
            text = " ".join(str(error).split()) or type(error).__name__
            raise RequirementError(f"ray: {where} cannot be reached: {text[:300]}") from error

    def list_machines(self, describe: str) -> list[Any]:
        """Return what the function `describe`, `module:name`, returns on each kind of node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(num_cpus=0, max_retries=RETRIES)(_call)
        references = [
            remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(describe)
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        done, _ = self._ray.wait(references, num_returns=len(references), timeout=_MACHINES_S)
        found: list[Any] = []
        for reference in done:
            # A node that has just been lost is no machine.
            with contextlib.suppress(self._ray.exceptions.RayError):
                machine = self._ray.get(reference)
                if machine not in found:
                    found.append(machine)
        if not found:
            raise RequirementError(f"ray: no node answered within {_MACHINES_S:g} s")
        return found

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskOutcome]:
        """Run the tasks; see `Executor.run`.

        Only twice as many as the cluster runs at once are submitted: the scheduler's time grows
        with its queue, and nodes that are added meanwhile get tasks too.
        """
        # A cluster of our own is one node, which `count` tasks share.
        per_node = self._count or 1 if self._address is None else 1
        resources = _Resources(self._ray, self._threads, per_node)
        waiting = iter(tasks)
        is_complete = False
        while True:
            while not is_complete and len(self._pending) < 2 * resources.slots():
                task = next(waiting, None)
                if task is None:
                    is_complete = True
                elif task.gpu and not resources.gpus():
                    yield TaskOutcome(task.key, problem="ray: the cluster has no GPU")
                else:
                    self._submit(task, resources)
            if not self._pending:
                return
            for reference in self._wait():
                yield self._receive(reference)

    def _wait(self) -> list[Any]:
        """Wait until a task has ended, or some seconds; return all that have.

        Ray looks at every reference at each call, so that one call for each task would be slow.
        """
        references = list(self._pending)
        done, _ = self._ray.wait(references, num_returns=1, timeout=_RESOURCES_S)
        if done:
            done, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return list(done)

    def _submit(self, task: Task, resources: _Resources) -> None:
        remote = self._remote.options(
            num_cpus=resources.cores_per_task(),
            num_gpus=1 if task.gpu else 0,
            memory=resources.limit_memory(task.memory),
        )
        reference = remote.remote(self._factory, task, os.environ.get(_THREADS_OF_RAY))
        self._pending[reference] = task

    def _receive(self, reference: Any) -> TaskOutcome:
        task = self._pending.pop(reference)
        try:
            outcome: TaskOutcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = f"ray: {type(error).__name__}: {lines[0][:300]}"
            return TaskOutcome(task.key, problem=f"{reason}; it was tried {RETRIES + 1} times")
        return outcome


class _Resources:
    """What the nodes of a cluster have, read again every few seconds."""

    def __init__(self, ray: Any, threads: int, per_node: int) -> None:
        self._ray = ray
        self._threads = threads
        self._per_node = per_node
        self._read_at = 0.0
        self._nodes: list[dict[str, float]] = []

    def _read(self) -> list[dict[str, float]]:
        if not self._nodes or time.monotonic() - self._read_at > _RESOURCES_S:
            alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._nodes = [each for each in alive if each.get("CPU")] or self._nodes
            self._read_at = time.monotonic()
        return self._nodes

    def cores_per_task(self) -> float:
        """Return the cores of one task: all of the smallest node where threads have no limit."""
        smallest = min((each["CPU"] for each in self._read()), default=1.0)
        return self._threads or smallest / self._per_node

    def slots(self) -> int:
        """Return how many tasks the cluster runs at once, at least one."""
        per_task = self.cores_per_task()
        return max(1, int(sum(each["CPU"] // per_task for each in self._read())))

    def gpus(self) -> float:
        """Return the number of GPUs."""
        return sum(each.get("GPU", 0.0) for each in self._read())

    def limit_memory(self, memory: int) -> int:
        """Return the memory to ask for: no node would ever be given a task that needs more."""
        largest = max((each.get("memory", 0.0) for each in self._read()), default=0.0)
        return int(min(memory, largest)) if largest else memory


def _run_in_worker(factory: str, task: Task, threads: str | None) -> TaskOutcome:
    """Run a task in a process of Ray, whose runner keeps its children for the next one."""
    # Without a limit of ours, the threads are those of a command on this machine.
    if THREADS_VARIABLE not in os.environ:
        os.environ.pop(_THREADS_OF_RAY, None)
        if threads is not None:
            os.environ[_THREADS_OF_RAY] = threads
    return run_task(_keep_runner(factory), task)


@cache
def _keep_runner(factory: str) -> TaskRunner:
    return create_runner(factory)


def _call(name: str) -> Any:
    return load_name(name)()


def _import_ray() -> Any:
    # No figures of use are sent to Ray's authors.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise RequirementError(f"ray: {error}; {install_command('ray', ['ray'])}") from error
    return ray


@contextlib.contextmanager
def _keep_handlers() -> Iterator[None]:
    """Restore the handlers of signals, which Ray replaces: its own ends a process with code 1."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_reachable(address: str) -> None:
    """Raise `RequirementError` unless something listens at a host and port.

    Ray itself would try for minutes.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequirementError(
            f"ray: {address} cannot be reached: {reason}; `ray status --address {address}` on a "
            "node says whether the cluster runs"
        ) from error


@contextlib.contextmanager
def _stage_code() -> Iterator[Path]:
    """Yield a folder that holds the packages of this `parity` and nothing else."""
    source = Path(parity.__file__).resolve().parent.parent
    folder: TemporaryDirectory[str] = temporary.create_folder()
    with folder as name:
        code = Path(name) / "code"
        for package in ("parity", "exporters"):
            shutil.copytree(
                source / package, code / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        yield code
