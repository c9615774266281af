"""Ctrl-C, signals, and processes that die or hang half-way: one line, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.end_to_end import harness
from tests.end_to_end.conftest import SMALL

pytestmark = pytest.mark.framework

TORCH = ("--subjects", "torch")


def _all_started(running, *runtimes):
    return lambda: set(runtimes) <= set(running.children())


@pytest.mark.parametrize("runtime", ["keras", "torch", "onnx"])
@pytest.mark.slow
def test_a_child_killed_half_way(tmp_path, runtime):
    """By whoever is short of memory: said as what it is, never read as a result."""
    scratch = tmp_path / "scratch"
    running = harness.start(scratch, "compare", "resnet18", *SMALL, "--json", "-", "--no-cache")
    children = running.wait_for(lambda: (c := running.children()) and len(c) == 3 and c)
    time.sleep(1.5)
    os.kill(children[runtime], signal.SIGKILL)
    done = running.finish()
    assert done.code == 3, done.err
    assert not done.left
    assert not done.running
    assert "Traceback" not in done.err
    assert not done.err, "the report tells it"
    assert done.report["verdict"] == "unknown"
    told = [facts["failure"] or "" for facts in done.report["subjects"].values()]
    assert any(f"{runtime}: the process died" in text and "SIGKILL" in text for text in told)


@pytest.mark.parametrize("group", [False, True], ids=["the parent", "the whole group"])
def test_ctrl_c(tmp_path, group):
    """One line, at once, and nobody is left."""
    scratch = tmp_path / "scratch"
    report = tmp_path / "report.json"
    running = harness.start(scratch, "compare", "resnet18", *SMALL, "--json", report, "--no-cache")
    running.wait_for(_all_started(running, "keras", "torch", "onnx"))
    time.sleep(1.5)
    asked = time.perf_counter()
    running.signal(signal.SIGINT, group=group)
    done = running.finish()
    # The rest of the comparison would take longer than that, the more so on a busy machine.
    assert time.perf_counter() - asked < 10
    assert done.code == 3
    assert "interrupted" in done.error
    assert not done.left
    assert not done.running
    assert not report.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_children_do_not_outlive_a_parent_that_was_ended(tmp_path, number):
    running = harness.start(tmp_path / "scratch", "compare", "resnet18", *SMALL, "--no-cache")
    running.wait_for(_all_started(running, "keras", "torch", "onnx"))
    running.signal(number)
    done = running.finish()
    assert done.code != 0
    assert not done.running
    # Nobody can clean up after a process that was killed.
    assert number == signal.SIGKILL or not done.left


def test_ctrl_c_while_converting(tmp_path, checkpoint):
    target = tmp_path / "out.keras"
    target.write_text("precious")
    running = harness.start(
        tmp_path / "scratch", "convert", "resnet18", "--weights", checkpoint, target, *SMALL
    )
    running.wait_for(_all_started(running, "keras"))
    running.signal(signal.SIGINT)
    done = running.finish()
    assert done.code == 3
    assert "interrupted" in done.error
    assert not done.left
    assert not done.running
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"out.keras", "scratch"}


def test_a_step_that_takes_too_long(parity):
    done = parity("compare", "resnet18", *SMALL, *TORCH, "--timeout", "0.05", "--json", "-")
    assert done.code == 3
    assert not done.err
    assert done.report["verdict"] == "unknown"
    assert "no answer" in done.report["subjects"]["torch"]["failure"]


def test_ctrl_c_before_the_handlers_are_there():
    """While the first modules are imported, Ctrl-C ends the process as it ends any program."""
    script = (
        "import _signal, os, sys\n"
        "_signal.signal(_signal.SIGINT, _signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'parity.processes.interrupts':\n"
        "            os.kill(os.getpid(), 2)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from parity.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stdout == done.stderr == ""
