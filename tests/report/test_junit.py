"""The report as JUnit XML."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest

from parity.numerics.verdict import Status
from parity.report.formats.junit import render
from parity.report.model import Level, Outcome, Report, Verdict, decide_verdict
from tests.report.samples import SAMPLES, SHAPES, SUBJECTS, divergence, full, parity


def suites(report: Report) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(render(report).encode())
    assert root.tag == "testsuites"
    for suite in root:
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(plural) == str(sum(case.find(tag) is not None for case in cases))
    for count in ("tests", "failures", "errors", "skipped"):
        assert root.get(count) == str(sum(int(suite.get(count, "")) for suite in root))
    return {suite.get("name", ""): suite for suite in root}


def passed(suite: ElementTree.Element) -> set[str]:
    return {c.get("name", "") for c in suite.findall("testcase")
            if all(part.tag == "system-out" for part in c)}  # fmt: skip


def test_a_case_for_each_stage_and_subject() -> None:
    found = suites(parity())
    assert set(found) == {"verdict", "levels", *SUBJECTS}
    for name in SUBJECTS:
        assert passed(found[name]) == set(SHAPES)
    assert passed(found["levels"]) == {"structure", "weights", "numerics"}


@pytest.mark.parametrize("sample", [*SAMPLES])
def test_only_what_passes_is_a_passed_case(sample: str) -> None:
    report = SAMPLES[sample]()
    found = suites(report)
    for name in report.subjects:
        fine = {s.name for s in report.stages if s.subjects[name].status.passes}
        assert passed(found[name]) == fine
    assert bool(passed(found["verdict"])) == (report.verdict is Verdict.PARITY)


def test_a_failure_has_figures() -> None:
    failure = suites(full())["keras"].find("testcase[@name='stage1']/failure")
    assert failure is not None
    assert "max abs 2.1e-2" in failure.get("message", "")
    assert "relative L2 3.0e-4, 310× the floor" in (failure.text or "")
    assert "worst at index [0, 7, 0, 3]: expected 1, found 1.02" in (failure.text or "")
    assert "own error: in isolation, it is 310× the floor" in (failure.text or "")
    later = suites(full())["keras"].find("testcase[@name='stage2']/failure")
    assert later is not None
    assert "inherited" in (later.text or "")


def test_another_input_is_a_case() -> None:
    suite = suites(full())["inputs"]
    assert passed(suite) == {"seed 1"}
    failure = suite.find("testcase[@name='zeros']/failure")
    assert failure is not None
    assert failure.get("message") == "diverged: keras at stage1, 41× the floor"


def test_missing_is_an_error_and_a_skipped_level_skipped() -> None:
    found = suites(SAMPLES["unknown"]())
    case = found["keras"].find("testcase[@name='stem']")
    assert case is not None
    assert case.find("error") is not None
    run = found["keras"].find("testcase[@name='run']/error")
    assert run is not None
    assert run.get("message") == "the process was killed by signal 9"
    assert found["levels"].find("testcase[@name='semantics']/skipped") is not None


def test_a_subject_without_a_result_is_an_error() -> None:
    first, *rest = parity().stages
    absent = dataclasses.replace(first, subjects={})
    found = suites(dataclasses.replace(parity(), stages=(absent, *rest)))
    assert "stem" not in passed(found["keras"])


def test_a_failed_level_is_a_failure() -> None:
    levels = {**parity().levels, "structure": Level(Outcome.FAIL, ("stem.conv: stride",))}
    failure = suites(dataclasses.replace(parity(), levels=levels))["levels"].find(
        "testcase[@name='structure']/failure"
    )
    assert failure is not None
    assert failure.get("message") == "stem.conv: stride"


def test_nothing_compared_is_not_green() -> None:
    report = dataclasses.replace(parity(), stages=())
    verdict = decide_verdict(subjects=report.subjects, levels={}, stages=())
    found = suites(dataclasses.replace(report, verdict=verdict))
    assert not passed(found["verdict"])


def test_hostile_text_stays_text() -> None:
    report = dataclasses.replace(divergence(), model='</testsuite>\x00\x1b]]>&"<x>\ud800')
    suite = suites(report)["keras"]
    classname = suite.findall("testcase")[0].get("classname", "")
    assert classname == '</testsuite>��]]>&"<x>�.keras'


def test_statuses_are_all_known() -> None:
    assert {s for s in Status if s.passes} == {Status.EXACT, Status.AT_FLOOR}
