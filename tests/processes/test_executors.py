"""The executors: every task has one outcome, whatever its process does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parity.commands.executors import open_executor
from parity.errors import RequirementError, UsageError
from parity.processes.executors import local
from parity.processes.executors.local import LocalExecutor
from parity.processes.executors.ray import RayExecutor
from parity.processes.executors.tasks import Task, TaskOutcome

ROOT = Path(__file__).resolve().parents[2]
FACTORY = "tests.processes.runner_of_tests:Runner"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(tasks: list[Task], count: int = 2, **options: Any) -> dict[str, TaskOutcome]:
    with LocalExecutor(FACTORY, count=count, **options) as executor:
        found = list(executor.run(tasks))
    assert len(found) == len({each.key for each in found}) == len(tasks)
    return {each.key: each for each in found}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_task_has_its_value() -> None:
    found = run([Task(str(n), ("double", n)) for n in range(20)])
    assert {key: each.value for key, each in found.items()} == {str(n): 2 * n for n in range(20)}
    assert all(each.problem is None and each.seconds >= 0 for each in found.values())


def test_an_error_is_one_line_and_the_others_go_on() -> None:
    tasks = [
        Task("usage", ("usage", "two\nlines")),
        Task("disk", ("disk", "/full/file")),
        Task("fault", ("fault", None)),
        Task("right", ("double", 4)),
    ]
    found = run(tasks)
    assert found["usage"].problem == "two lines"
    assert found["disk"].problem == "/full/file: No space left on device"
    assert found["fault"].problem is not None
    assert found["fault"].problem.startswith("internal error of parity: ZeroDivisionError: ")
    assert found["right"].value == 8


def test_a_process_that_dies_is_tried_again(tmp_path: Path) -> None:
    found = run([Task("once", ("die once", str(tmp_path / "died"))), Task("right", ("double", 1))])
    assert found["once"].value == "survived"
    assert found["right"].value == 2


def test_a_task_that_kills_its_process_has_a_problem() -> None:
    tasks = [Task("kill", ("die", None)), *(Task(str(n), ("double", n)) for n in range(4))]
    found = run(tasks)
    assert found["kill"].problem == (
        "the process that ran it died 2 times (signal SIGKILL, possibly out of memory)"
    )
    assert [found[str(n)].value for n in range(4)] == [0, 2, 4, 6]


def test_a_process_keeps_to_one_affinity_while_there_are_tasks_of_it() -> None:
    pending = local._Pending([Task(f"{a}{n}", None, affinity=a) for n in range(2) for a in "abb"])
    assert pending.take(None, {None}).key == "b0"
    assert pending.take(None, {"b"}).key == "a0"
    assert [pending.take("b", {"a", "b"}).affinity for _ in range(3)] == ["b"] * 3
    assert pending.take("b", {"a", "b"}).key == "a1"
    assert not pending


def test_an_idle_process_helps_with_another_affinity() -> None:
    tasks = [Task(str(n), ("pid", 0.2), affinity="a") for n in range(4)]
    assert len({each.value for each in run(tasks).values()}) == 2


def test_threads_are_limited() -> None:
    found = run([Task("v", ("variables", None))], threads=3)["v"].value
    assert {found[name] for name in ("PARITY_THREADS", "OMP_NUM_THREADS")} == {"3"}
    assert found["TF_NUM_INTRAOP_THREADS"] == "3"
    found = run([Task("v", ("variables", None))], threads=0)["v"].value
    assert "PARITY_THREADS" not in found


def test_leaving_ends_what_runs(tmp_path: Path) -> None:
    """A runner is closed, and no process stays."""
    file = tmp_path / "pids"
    tasks = [Task("long", ("sleep", str(file))), Task("short", ("double", 1))]

    def interrupt() -> None:
        with LocalExecutor(FACTORY, count=2) as executor:
            for outcome in executor.run(tasks):
                assert outcome.key == "short"
                while not (file.exists() and file.read_text()):
                    time.sleep(0.01)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert not is_alive(int(file.read_text()))
    assert (tmp_path / "pids.closed").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it kills the parent")
def test_processes_end_with_their_parent(tmp_path: Path) -> None:
    import subprocess

    file = tmp_path / "pids"
    code = (
        "from parity.processes.executors.local import LocalExecutor\n"
        "from parity.processes.executors.tasks import Task\n"
        f"with LocalExecutor({FACTORY!r}, count=1) as executor:\n"
        f"    list(executor.run([Task('long', ('sleep', {str(file)!r}))]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until = time.monotonic() + 30
    while not (file.exists() and file.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pid = int(file.read_text())
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(pid)


def test_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(local, "_free_memory", lambda: 2**62)
    assert local.count_processes(1) == 8
    assert local.count_processes(4) == 2
    assert local.count_processes(16) == 1
    # Without a limit of threads, each uses all cores.
    assert local.count_processes(0) == 1
    monkeypatch.setattr(local, "_free_memory", lambda: 7 * 2**30)
    assert local.count_processes(1) == 2
    monkeypatch.setattr(local, "_free_memory", lambda: 0)
    assert local.count_processes(1) == 1


def test_places_are_named() -> None:
    assert isinstance(open_executor("local", count=3), LocalExecutor)
    with pytest.raises(UsageError, match="--on: unknown place 'locla'; did you mean 'local'"):
        open_executor("locla")
    with pytest.raises(UsageError, match="--jobs must be at least 1, found 0"):
        open_executor("local", count=0)
    with pytest.raises(UsageError, match=r"--on: expected ray:HOST:PORT, found 'ray:10\.0\.0\.1'"):
        open_executor("ray:10.0.0.1")


# Ray ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_cannot_be_reached(address: str) -> None:
    pytest.importorskip("ray")
    place = address if address.startswith("ray") else f"ray:{address}"
    start = time.perf_counter()
    with (
        pytest.raises(RequirementError, match=rf"^ray: {address} cannot be reached: .*refused"),
        open_executor(place),
    ):
        pass
    assert time.perf_counter() - start < 10


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequirementError, match=r"^ray: .*; pip install .*\[ray\]"):
        RayExecutor(FACTORY)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each; the head has none."""
    pytest.importorskip("ray")
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    found.workers = [found.add_node(num_cpus=1) for _ in range(2)]
    yield found
    found.shutdown()
    del os.environ["PYTHONPATH"]


@pytest.mark.slow
def test_ray_runs_every_task_once_though_a_node_is_lost(cluster: Any) -> None:
    tasks = [Task(str(n), ("pid", 1.0)) for n in range(10)]
    tasks += [Task("usage", ("usage", "a fault")), Task("gpu", ("pid", 0.0), gpu=True)]
    found: dict[str, TaskOutcome] = {}
    with RayExecutor(FACTORY, address=cluster.address) as executor:
        assert executor.list_machines("tests.processes.runner_of_tests:describe") == [{"kind": "x"}]
        for outcome in executor.run(tasks):
            assert outcome.key not in found
            found[outcome.key] = outcome
            if len(found) == 4:
                cluster.remove_node(cluster.workers.pop(), allow_graceful=False)
    assert set(found) == {task.key for task in tasks}
    assert found["usage"].problem == "a fault"
    assert found["gpu"].problem == "ray: the cluster has no GPU"
    assert all(found[str(n)].problem is None for n in range(10))


@pytest.mark.slow
def test_leaving_a_cluster_cancels_what_runs(tmp_path: Path, cluster: Any) -> None:
    file = tmp_path / "pid"

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def interrupt() -> None:
        with RayExecutor(FACTORY, address=cluster.address) as executor:
            # Ray's own handlers would end a command with the code of a divergence.
            assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
            outcomes = executor.run(
                [Task("long", ("sleep", str(file))), Task("bad", ("usage", ""))]
            )
            next(outcomes)
            while not (file.exists() and file.read_text()):
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    until = time.monotonic() + 20
    while is_alive(int(file.read_text())) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(int(file.read_text()))
