"""Ctrl-C is heard wherever it falls, as soon as it can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from types import SimpleNamespace

import pytest

from parity.processes import interrupts


def _ask_to_stop(number=signal.SIGINT):
    """As a terminal does; what comes next is where the interruption falls."""
    os.kill(os.getpid(), number)
    return sum(range(1000))


@pytest.fixture
def handlers():
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A test run that was started in the background by a shell ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.install_handlers()
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def _interrupted_by(work):
    """How long it took until `work`, and a minute's waiting, was interrupted."""

    def worked():
        work()
        time.sleep(60)

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        worked()
    return time.perf_counter() - started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("handlers")
def test_at_once(number):
    assert _interrupted_by(lambda: _ask_to_stop(number)) < 10


@pytest.mark.usefixtures("handlers")
def test_in_a_destructor():
    class Dying:
        def __del__(self):
            _ask_to_stop()

    assert _interrupted_by(Dying) < 10


@pytest.mark.usefixtures("handlers")
def test_in_the_callback_of_a_weak_reference():
    class Thing:
        pass

    def work():
        weakref.finalize(Thing(), _ask_to_stop)

    assert _interrupted_by(work) < 10


def test_the_callbacks_of_weak_sets_are_known():
    """They are closures of a module of their own."""
    kept = weakref.WeakSet()
    assert interrupts._drops_exceptions(SimpleNamespace(f_code=kept._remove.__code__))
    assert not interrupts._drops_exceptions(SimpleNamespace(f_code=_ask_to_stop.__code__))


def test_what_was_to_be_ignored_stays_ignored():
    """A shell's `parity … &` ignores Ctrl-C, which is meant for whoever is in front."""
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.install_handlers()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, kept)


MODULE = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.2)
whole = True
"""

IMPORTER = """
import signal
from parity.processes import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.install_handlers()
try:
    import interrupted_module
    import time
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted, whole:", interrupted_module.whole)
"""


def test_in_an_import(tmp_path):
    """What is being imported is there as a whole, then the interruption comes."""
    (tmp_path / "interrupted_module.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-c", IMPORTER],
        capture_output=True, text=True, timeout=50, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.stdout == "interrupted, whole: True\n", done.stderr
    assert not done.stderr
