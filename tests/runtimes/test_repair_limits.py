"""A change of a source that never ends is stopped."""

from __future__ import annotations

import time

import pytest

from parity.runtimes.repair import limit_time


def spin():
    with limit_time(0.05):
        while True:
            pass


def test_a_loop_without_an_end_is_stopped():
    with pytest.raises(TimeoutError, match=r"more than 0\.05 s"):
        spin()


def test_what_ends_in_time_leaves_no_alarm():
    with limit_time(0.05):
        pass
    time.sleep(0.1)
