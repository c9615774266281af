"""A small part of the study of hostile inputs, and tests in which its checks fail."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.studies.hostile import campaign, fuzz
from tests.studies.hostile.case import HostileCase

# Their commands start no process of a framework.
KINDS = ("safetensors", "capture", "case file", "table", "option")

CASE = HostileCase("option", "any", lambda folder: None, ("compare",))
GOOD = campaign.Ending(2, "", "error: x: no such file\n", 0.1, 0, ())


@pytest.mark.skipif(sys.platform != "linux", reason="processes and memory as Linux has them")
def test_every_input_is_handled(tmp_path: Path) -> None:
    # A process of this size leaves its peak to those that it forks.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert not pool.submit(_find_faults, tmp_path).result()


def _find_faults(folder: Path) -> dict[tuple[str, str], tuple[list[str], str]]:
    cases = campaign.draw_cases(60, 3, {}, KINDS)
    return {
        (case.kind, case.name): (found, ending.err[-500:])
        for case, ending, _ in campaign.run(cases, folder, None, 2, 3)
        if (found := ending.find_faults(case))
    }


@pytest.mark.parametrize("target", fuzz.list_targets(), ids=lambda target: target.name)
def test_every_parser_gives_a_result_or_an_error_of_parity(
    target: fuzz.Target, tmp_path: Path
) -> None:
    assert fuzz.fuzz(target, tmp_path, 7, 40) >= 40


def test_a_good_ending_has_no_fault() -> None:
    assert not GOOD.find_faults(CASE)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"code": 3}, "exit code 3"),
        ({"code": -11}, "exit code -11"),
        ({"err": "Traceback (most recent call last):\n"}, "a traceback"),
        ({"err": "error: internal error of parity: KeyError: 1\n"}, "an internal error"),
        ({"err": "a\nb\nc\nd\n"}, "4 lines"),
        ({"err": ""}, "no message"),
        ({"err": "error: \x1b[2J\n"}, "a control character"),
        ({"out": "a\tb"}, "a control character"),
        ({"out": "::error::x"}, "a command for a CI system"),
        ({"err": "error: x ##[error]\n"}, "a command for a CI system"),
        ({"err": "x" * 10_000}, "10000 characters"),
        ({"seconds": 21.0}, "21 s"),
        ({"peak": 2**31}, "2048 MiB"),
        ({"left": (".parity-1",)}, "left .parity-1"),
    ],
)
def test_what_is_wrong_with_an_ending_is_found(change: dict, fault: str) -> None:
    assert any(fault in each for each in replace(GOOD, **change).find_faults(CASE))


def test_a_parser_that_crashes_is_found(tmp_path: Path) -> None:
    def parse(path: Path) -> None:
        if path.read_bytes() != b"good content":
            raise KeyError(101)

    with pytest.raises(KeyError):
        fuzz.fuzz(fuzz.Target("toy", "x", parse, (b"good content",)), tmp_path, 0, 50)
