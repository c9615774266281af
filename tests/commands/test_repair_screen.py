"""How many changed sources are run: a count bounds it, the same on every machine."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from parity.commands import repair_screen
from parity.commands.repair_screen import Screen


@pytest.fixture
def screen(tmp_path, monkeypatch):
    """A screen whose runs have the error that is in the text."""
    monkeypatch.setattr(repair_screen, "_pair_outputs", lambda *_: {"y": (None, np.zeros(1))})

    def measure(self, state, runner, reference, alternatives, outputs):
        return [float(next(iter(texts.values()))) for texts in alternatives]

    monkeypatch.setattr(Screen, "_measure", measure)
    return Screen("torch", tmp_path, lambda *_: None, 100, time.monotonic() + 1e6)


def run(screen, errors):
    options = [("net.py", str(error)) for error in errors]
    return screen.run(None, None, None, "net.py:build", {}, options)


def test_no_more_changes_are_run_than_the_limit(screen):
    errors = [1.0 + number for number in range(150)]
    assert len(run(screen, errors)) == screen.runs == 100
    assert screen.has_left_some
    assert run(screen, [9.5]) == []


def test_a_limit_holds_for_a_block_and_a_change_is_run_once(screen):
    errors = [1.0 + number for number in range(30)]
    with screen.limit(20):
        assert len(run(screen, errors)) == 20
    assert len(run(screen, errors)) == 30
    assert screen.runs == 30


def test_changes_that_all_were_run_leave_none(screen):
    run(screen, [1.0, math.inf, 2.0])
    assert not screen.has_left_some


def test_a_batch_with_a_change_that_comes_near_is_the_last(screen):
    found = run(screen, [1.0, 1e-9, *(2.0 + number for number in range(90))])
    assert found[0].error == 1e-9
    assert screen.runs == repair_screen.BATCH


def test_no_change_is_run_after_the_end(screen):
    screen.end = time.monotonic() - 1.0
    assert run(screen, [1.0]) == []
    assert screen.has_left_some
