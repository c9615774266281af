"""The report as JUnit XML: test cases for the verdict, each level, and each subject and point."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from parity.numerics.verdict import PointResult, Status
from parity.report import wording
from parity.report.model import Outcome, Report, Verdict

SUFFIX = ".xml"

# Characters that XML 1.0 does not allow, escaped or not (its production `Char`).
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class JUnitCase:
    """A test case; ``outcome`` is "passed", or the tag "failure", "error" or "skipped"."""

    suite: str
    name: str
    outcome: str = "passed"
    message: str = ""
    details: str = ""


def render(report: Report) -> str:
    """Return the XML document. Skipped and missing results are never passed cases."""
    cases = list(build_cases(report))
    root = ElementTree.Element("testsuites", _suite_attributes(report.model, cases, report.seconds))
    for name in dict.fromkeys(case.suite for case in cases):
        inside = [case for case in cases if case.suite == name]
        seconds = 0.0
        if name in report.subjects:
            seconds = sum(report.subjects[name].seconds.values())
        suite = ElementTree.SubElement(root, "testsuite", _suite_attributes(name, inside, seconds))
        _append_properties(suite, report, name)
        for case in inside:
            _append_case(suite, report, case)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def combine(reports: Mapping[str, Report]) -> str:
    """Return all cases' suites in one document, each named after its case."""
    root = ElementTree.Element("testsuites", {"name": "parity check"})
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    seconds = 0.0
    for name, report in reports.items():
        found = ElementTree.fromstring(render(report))
        for key in totals:
            totals[key] += int(found.get(key, "0"))
        seconds += float(found.get("time", "0"))
        for suite in found:
            suite.set("name", f"{name}: {suite.get('name')}")
            for case in suite.iter("testcase"):
                case.set("classname", f"{name}.{case.get('classname')}")
            root.append(suite)
    root.attrib.update({key: str(value) for key, value in totals.items()})
    root.set("time", f"{seconds:.3f}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def build_cases(report: Report) -> Iterator[JUnitCase]:
    """Yield the cases: verdict, levels, other inputs, then each subject's points."""
    sentence = wording.describe_verdict(report)
    outcome = {Verdict.DIVERGENCE: "failure", Verdict.UNKNOWN: "error"}.get(
        report.verdict, "passed"
    )
    yield JUnitCase(
        "verdict", report.verdict.value, outcome, sentence, "\n".join(report.attribution)
    )
    for name, level in report.levels.items():
        outcome = {Outcome.FAIL: "failure", Outcome.SKIPPED: "skipped"}.get(level.outcome, "passed")
        first = level.messages[0] if level.messages else f"{name}: {level.outcome.value}"
        yield JUnitCase("levels", name, outcome, first, "\n".join(level.messages))
    for trial in report.trials:
        ratio = wording.format_ratio(max(trial.x_floor, trial.x_floor_max))
        message = f"{trial.status.value}: {trial.subject} at {trial.stage}, {ratio} the floor"
        tag = "error" if trial.status is Status.MISSING else "failure"
        yield JUnitCase("inputs", trial.name, "passed" if trial.status.passes else tag, message)
    for name, facts in report.subjects.items():
        if facts.failure:
            yield JUnitCase(name, "run", "error", facts.failure, facts.failure)
        for stage in report.stages:
            yield _build_case(report, name, stage)


def _build_case(report: Report, name: str, stage: PointResult) -> JUnitCase:
    result = stage.subjects.get(name)
    if result is None or result.status is Status.MISSING:
        reason = result.message if result is not None else None
        return JUnitCase(
            name, stage.name, "error", reason or "missing: nothing was compared at this point"
        )
    if result.status.passes:
        return JUnitCase(name, stage.name)
    max_abs, rel_l2 = map(wording.format_number, (result.max_abs, result.rel_l2))
    details = [
        wording.describe_error(result),
        f"max abs {max_abs}, {wording.format_ratio(result.x_floor_max)} the floor",
        f"relative L2 {rel_l2}, {wording.format_ratio(result.x_floor)} the floor",
        f"{report.limit:g}× is allowed; shape {wording.format_shape(stage.shape)}, row {stage.row}",
    ]
    origin = wording.describe_origin(stage, name)
    message = f"{result.status.value}: {wording.describe_error(result)}"
    return JUnitCase(name, stage.name, "failure", message, "\n".join([*details, origin]).rstrip())


def _suite_attributes(name: str, cases: list[JUnitCase], seconds: float) -> dict[str, str]:
    counts = {
        plural: str(sum(case.outcome == tag for case in cases))
        for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    return {"name": _clean(name), "tests": str(len(cases)), **counts, "time": f"{seconds:.3f}"}


def _append_properties(suite: ElementTree.Element, report: Report, name: str) -> None:
    facts = report.subjects.get(name)
    if facts is None:
        properties = {
            "model": report.model,
            "weights.sha256": report.weights.sha256,
            "input.sha256": report.input.sha256,
            "machine": " · ".join(wording.describe_machine(report)),
        }
    else:
        properties = {
            "runtime": facts.runtime,
            "device": facts.device,
            "precision": facts.precision,
        }
        properties |= {"backend": facts.backend} if facts.backend else {}
        properties |= {f"flags.{key}": str(value) for key, value in facts.flags.items()}
    element = ElementTree.SubElement(suite, "properties")
    for key, value in properties.items():
        attributes = {"name": _clean(key), "value": _clean(value)}
        ElementTree.SubElement(element, "property", attributes)


def _append_case(suite: ElementTree.Element, report: Report, case: JUnitCase) -> None:
    attributes = {"classname": _clean(f"{report.model}.{case.suite}"), "name": _clean(case.name)}
    element = ElementTree.SubElement(suite, "testcase", attributes)
    if case.outcome == "passed":
        return
    inner = ElementTree.SubElement(element, case.outcome, {"message": _clean(case.message)})
    if case.outcome != "skipped":
        inner.set("type", "parity")
    inner.text = _clean(case.details or case.message)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
