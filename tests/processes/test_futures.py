"""Futures between threads: errors reach those who wait, and a result is set once."""

from __future__ import annotations

import re
from concurrent.futures import Future
from pathlib import Path

import pytest

from parity.errors import ChildError
from parity.processes.futures import (
    first_result,
    pass_errors_to,
    set_error_if_pending,
    set_result_if_pending,
)


def test_an_error_reaches_those_who_wait_and_the_caller():
    done, pending = Future(), Future()
    done.set_result(1)
    error = ChildError("died")
    with pytest.raises(ChildError), pass_errors_to(done, pending):
        raise error
    assert done.result() == 1
    assert pending.exception() is error


def test_without_an_error_futures_stay_pending():
    pending = Future()
    with pass_errors_to(pending):
        pass
    assert not pending.done()


def test_a_result_or_an_error_is_set_once():
    future = Future()
    set_error_if_pending(future, ChildError("first"))
    set_result_if_pending(future, 2)
    set_error_if_pending(future, ChildError("second"))
    assert str(future.exception()) == "first"
    other = Future()
    set_result_if_pending(other, 2)
    set_error_if_pending(other, ChildError("late"))
    assert other.result() == 2


def test_the_first_of_two_futures():
    one, other = Future(), Future()
    other.set_result("path")
    assert first_result(one, other) == "path"
    failed = Future()
    failed.set_exception(ChildError("died"))
    with pytest.raises(ChildError):
        first_result(failed, Future())


def test_only_the_operations_here_end_a_future():
    """Where a thread has failed, another may have ended the future that this one would set."""
    root = Path(__file__).resolve().parents[2] / "parity"
    ending = re.compile(r"\.set_(result|exception)\(")
    assert [str(p) for p in root.rglob("*.py") if ending.search(p.read_text("utf-8"))] == [
        str(root / "processes" / "futures.py")
    ]
