"""The parent's side of a child process, against children that fail in every way they can."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import parity
from parity.errors import (
    ChildError,
    InterpreterError,
    RequirementError,
    UnsupportedRequestError,
    WeightError,
)
from parity.processes import origin
from parity.processes.child import Child, refuse_crashing_file
from parity.processes.children import Children
from parity.processes.subjects import parse_child_name
from parity.processes.variables import child_variables


@pytest.fixture
def child(monkeypatch, tmp_path):
    """A child that serves `tests.fakes.fake` instead of a framework."""
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    made = Child("fake")
    yield made
    made.kill()
    made.close()


@pytest.fixture(autouse=True)
def fake_runtime(monkeypatch):
    monkeypatch.setenv("PARITY_RUNTIMES", "tests.fakes")


def test_a_reset_child_has_forgotten_its_model_in_the_same_process(child):
    child.call("load", value="a model")
    before = child.call("loaded")
    child.reset()
    after = child.call("loaded")
    assert (before["held"], after["held"]) == (["a model"], None)
    assert before["pid"] == after["pid"]
    # A process that is started in its place does not load the model of before, either.
    child.suspend()
    assert child.call("loaded")["held"] is None
    child.suspend()
    child.reset()
    assert child.call("loaded")["held"] is None


def test_a_request_that_was_begun_is_answered_by_its_call(child):
    child.begin("echo", value=3)
    child.begin("load", value="early")
    assert child.call("echo", value=3) == {"value": 3}
    # The call neither sends it again nor loses what a process in its place must repeat.
    child.call("load", value="early")
    assert child.call("loaded")["held"] == ["early"]
    child.suspend()
    assert child.call("loaded")["held"] == ["early"]


def test_another_call_waits_for_what_was_begun(child):
    child.begin("load", value="early")
    child.call("load", value="late")
    assert child.call("loaded")["held"] == ["early", "late"]


def test_the_error_of_a_request_that_was_begun_is_its_calls(child):
    child.begin("load", value=1)
    child.begin("absent operation")
    child.call("load", value=1)
    with pytest.raises(UnsupportedRequestError):
        child.call("absent operation")


def test_a_process_that_died_of_what_was_begun_is_the_calls_error(child):
    child.begin("die", code=7)
    with pytest.raises(ChildError, match=r"died during 'die' \(exit code 7\).*farewell"):
        child.call("die", code=7)


def test_two_threads_get_one_child():
    """Both graphs ask for ONNX Runtime's child, neither of them first."""
    with Children() as children, ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)

        def ask(_: int) -> Child:
            barrier.wait()
            return children["fake"]

        assert len(set(map(id, pool.map(ask, range(8))))) == 1


def test_a_suspended_child_has_no_process_and_comes_back_as_it_was(child):
    child.call("load", value=1)
    child.call("load", value=2)
    with pytest.raises(WeightError):
        child.call("refuse", message="is not done again")
    before = child.call("loaded")
    child.suspend()
    with pytest.raises(ProcessLookupError):
        os.kill(before["pid"], 0)
    child.suspend()
    after = child.call("loaded")
    assert after["held"] == before["held"] == [1, 2]
    assert after["pid"] != before["pid"]


def test_a_suspended_child_can_be_closed_and_killed(child):
    child.call("load", value=1)
    child.suspend()
    child.kill()
    # Whoever waited for its turn does not bring it back.
    with pytest.raises(ChildError):
        child.call("loaded")
    child.close()


def test_answers_and_survives_errors(child):
    assert child.call("echo", value=[1, 2]) == {"value": [1, 2]}
    with pytest.raises(WeightError, match="no such weight"):
        child.call("refuse", message="no such weight")
    assert child.call("echo", value=3) == {"value": 3}


def test_prints_do_not_disturb_the_answers(child):
    assert child.call("chatter") == {"said": 1000}


def test_unforeseen_error_names_its_type(child):
    with pytest.raises(ChildError, match=r"fake: ZeroDivisionError: division by zero"):
        child.call("crash")


def test_unknown_operation_is_refused(child):
    with pytest.raises(
        UnsupportedRequestError, match="fake: the runtime does not implement '_secret'"
    ):
        child.call("_secret")


def test_death_is_told_with_the_end_of_stderr(child):
    told = r"died during 'die' \(exit code 7\).*last output: farewell"
    with pytest.raises(ChildError, match=told):
        child.call("die", code=7)


def test_a_killed_child_names_the_signal(child):
    threading.Timer(0.3, lambda: os.kill(child.pid, signal.SIGKILL)).start()
    with pytest.raises(ChildError, match="SIGKILL, possibly out of memory"):
        child.call("sleep", seconds=30)


def test_a_child_that_crashes_at_a_file_names_the_file(child):
    threading.Timer(0.3, lambda: os.kill(child.pid, signal.SIGSEGV)).start()
    told = "x.h5: is damaged; fake: the process died during 'sleep' .signal SIGSEGV"
    with pytest.raises(WeightError, match=told), refuse_crashing_file("x.h5"):
        child.call("sleep", seconds=30)


def test_a_child_that_is_killed_at_a_file_says_nothing_of_the_file(child):
    threading.Timer(0.3, lambda: os.kill(child.pid, signal.SIGKILL)).start()
    with pytest.raises(ChildError, match="SIGKILL") as raised, refuse_crashing_file("x.h5"):
        child.call("sleep", seconds=30)
    assert "x.h5" not in str(raised.value)


def test_a_hung_child_is_stopped(monkeypatch):
    child = Child("fake", timeout=0.5)
    child.timeout = 30
    child.call("echo", value=0)
    child.timeout = 0.3
    with pytest.raises(ChildError, match=r"no answer to 'sleep' within 0.3 s"):
        child.call("sleep", seconds=30)
    child.close()


def test_a_missing_framework_says_what_to_install():
    child = Child("absent")
    with pytest.raises(RequirementError, match="No module named 'no_such_framework'"):
        child.call("hello")
    child.close()


def test_a_package_that_is_missed_later_says_what_to_install_too(child, monkeypatch):
    with pytest.raises(RequirementError) as raised:
        child.call("export")
    assert str(raised.value) == (
        f"fake: No module named 'no_such_exporter'; {origin.install_command('fake')}"
    )


def test_a_runtime_that_there_is_not():
    child = Child("unknown")
    with pytest.raises(RequirementError, match="unknown runtime 'unknown'; known: "):
        child.call("hello")
    child.close()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("broken", "unreadable answer to 'echo': not a line of JSON"),
        ('{"id": 1}', "unreadable answer to 'echo': a response with a wrong or missing field"),
        ('{"id": 5, "result": {}}', "answered request 5, not 1"),
    ],
)
def test_an_answer_that_is_none(tmp_path, line, told):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nread line; echo '{line}'; sleep 5\n")
    python.chmod(0o755)
    child = Child("fake", python=str(python))
    with pytest.raises(ChildError) as raised:
        child.call("echo", value=1)
    assert told in str(raised.value)
    child.kill()
    child.close()


@pytest.mark.parametrize("name", ["fake", "fake[other]@old"])
def test_an_interpreter_without_parity_is_told_which_extra_to_install(tmp_path, name):
    """The extra is the runtime's, whatever else the child's name says."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"x: No module named 'parity'\" >&2; exit 1\n")
    python.chmod(0o755)
    child = Child(name, python=str(python))
    with pytest.raises(InterpreterError) as raised:
        child.call("hello")
    assert str(raised.value) == (
        f"{name}: {python} has no parity; install it there: {python} -m pip install "
        f'-e "{Path(parity.__file__).parent.parent}[fake]"'
    )
    child.close()


def test_an_interpreter_that_is_not_there():
    with pytest.raises(RequirementError, match="cannot start /no/such/python"):
        Child("fake", python="/no/such/python")


def test_children_are_gone_after_an_error():
    seen = []

    def interrupted():
        with Children() as children:
            seen.append(children["fake"].pid)
            children["fake"].call("echo", value=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (pid,) = seen
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_leaves_when_its_parent_is_gone():
    child = Child("fake")
    child.call("echo", value=1)
    thread = threading.Thread(target=lambda: _ignore(child), daemon=True)
    thread.start()
    time.sleep(0.2)
    child._process.stdin.close()
    assert child._process.wait(timeout=5) == 0


def _ignore(child):
    with contextlib.suppress(ChildError):
        child.call("sleep", seconds=30)


def test_what_a_framework_leaves_in_the_temporary_folder_goes_with_it(child):
    left = child.call("litter")["path"]
    assert os.path.exists(left)
    child.close()
    assert not os.path.exists(left)


def test_the_settings_of_the_allocator_are_those_of_the_user_where_there_are_some(monkeypatch):
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4096")
    variables = child_variables(parse_child_name("torch"), own_interpreter=True, gpu=False)
    assert int(variables["MALLOC_MMAP_THRESHOLD_"]) > 2**25, "glibc's own limit"
    assert variables["MALLOC_TRIM_THRESHOLD_"] == "4096"


@pytest.mark.parametrize("gpu", [False, True])
def test_only_with_a_gpu_is_the_freeing_of_memory_waited_for(monkeypatch, gpu):
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    child = Child("fake", gpu=gpu)
    child.call("echo", value=1)
    threads = []

    def wait(timeout=None):
        threads.append(threading.current_thread())
        return process_wait(timeout)

    process_wait = child._process.wait
    monkeypatch.setattr(child._process, "wait", wait)
    child.close()
    assert (threading.main_thread() in threads) == gpu
    # It is waited for all the same, so that no process is left behind unread.
    assert process_wait(5) == 0


def test_a_child_says_that_it_ends(child, monkeypatch):
    """Whoever else has its output open, such as a process that the user's code has forked."""
    monkeypatch.setattr("parity.processes.child._END_S", 20.0)
    child.call("fork", seconds=8)
    started = time.perf_counter()
    child.close()
    assert child._process.wait(timeout=5) == 0
    assert time.perf_counter() - started < 7


def test_a_child_that_does_not_end_is_killed(child, monkeypatch):
    monkeypatch.setattr("parity.processes.child._END_S", 0.2)
    os.kill(child.pid, signal.SIGSTOP)
    child.close()
    assert child._process.wait(timeout=5) == -signal.SIGKILL


def test_ctrl_c_does_not_wait_for_an_answer():
    """Threads that wait for their children are not waited for until these have answered."""

    def interrupted():
        with Children() as children:
            children["fake"].call("echo", value=1)
            with children.threads(1) as pool:
                pool.submit(children["fake"].call, "sleep", seconds=30)
                raise KeyboardInterrupt

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.perf_counter() - started < 15


def test_another_error_leaves_the_children_to_those_who_still_ask_them():
    with Children() as children:
        with pytest.raises(ChildError), children.threads(1):
            raise ChildError("one of several has failed")
        assert children["fake"].call("echo", value=1) == {"value": 1}
