"""The report as JUnit XML: a case for each cut and subject, each level, and the verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from parity.numerics.verdict import StageResult, Status
from parity.report import wording
from parity.report.model import Outcome, Report, Verdict

SUFFIX = ".xml"

# What XML 1.0 cannot hold, escaped or not (its production `Char`).
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """A test case; ``outcome`` is "passed" or the tag that says that it did not pass."""

    suite: str
    name: str
    outcome: str = "passed"
    message: str = ""
    details: str = ""


def render(report: Report) -> str:
    """Return the XML document. What was skipped or is missing is never a passed case."""
    found = list(cases(report))
    root = ElementTree.Element("testsuites", _attributes(report.model, found, report.seconds))
    for name in dict.fromkeys(case.suite for case in found):
        inside = [case for case in found if case.suite == name]
        seconds = 0.0
        if name in report.subjects:
            seconds = sum(report.subjects[name].seconds.values())
        suite = ElementTree.SubElement(root, "testsuite", _attributes(name, inside, seconds))
        _properties(suite, report, name)
        for case in inside:
            _append(suite, report, case)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def cases(report: Report) -> Iterator[Case]:
    """Give the cases: the verdict's and levels' first, then each subject's."""
    told = wording.describe_verdict(report)
    wrong = {Verdict.DIVERGENCE: "failure", Verdict.UNKNOWN: "error"}.get(report.verdict, "passed")
    yield Case("verdict", report.verdict.value, wrong, told, "\n".join(report.attribution))
    for name, level in report.levels.items():
        outcome = {Outcome.FAIL: "failure", Outcome.SKIPPED: "skipped"}.get(level.outcome, "passed")
        first = level.messages[0] if level.messages else f"{name}: {level.outcome.value}"
        yield Case("levels", name, outcome, first, "\n".join(level.messages))
    for trial in report.trials:
        ratio = wording.format_ratio(max(trial.x_floor, trial.x_floor_max))
        told = f"{trial.status.value}: {trial.subject} at {trial.stage}, {ratio} the floor"
        kind = "error" if trial.status is Status.MISSING else "failure"
        yield Case("inputs", trial.name, "passed" if trial.status.passes else kind, told)
    for name, facts in report.subjects.items():
        if facts.failure:
            yield Case(name, "run", "error", facts.failure, facts.failure)
        for stage in report.stages:
            yield _case(report, name, stage)


def _case(report: Report, name: str, stage: StageResult) -> Case:
    result = stage.subjects.get(name)
    if result is None or result.status is Status.MISSING:
        reason = result.message if result is not None else None
        return Case(name, stage.name, "error", reason or "missing: nothing was compared here")
    if result.status.passes:
        return Case(name, stage.name)
    details = [
        wording.describe_error(result),
        f"max abs {wording.format_number(result.max_abs)}, {wording.format_ratio(result.x_floor_max)} the floor",
        f"relative L2 {wording.format_number(result.rel_l2)}, {wording.format_ratio(result.x_floor)} the floor",
        f"{report.limit:g}× is allowed; shape {wording.format_shape(stage.shape)}, row {stage.row}",
    ]
    alone = wording.describe_origin(stage, name)
    message = f"{result.status.value}: {wording.describe_error(result)}"
    return Case(name, stage.name, "failure", message, "\n".join([*details, alone]).rstrip())


def _attributes(name: str, found: list[Case], seconds: float) -> dict[str, str]:
    counts = {
        plural: str(sum(case.outcome == tag for case in found))
        for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    return {"name": _clean(name), "tests": str(len(found)), **counts, "time": f"{seconds:.3f}"}


def _properties(suite: ElementTree.Element, report: Report, name: str) -> None:
    facts = report.subjects.get(name)
    if facts is None:
        held = {
            "model": report.model,
            "weights.sha256": report.weights.sha256,
            "input.sha256": report.input.sha256,
            "machine": " · ".join(wording.describe_machine(report)),
        }
    else:
        held = {"runtime": facts.runtime, "device": facts.device, "precision": facts.precision}
        held |= {"backend": facts.backend} if facts.backend else {}
        held |= {f"flags.{key}": str(value) for key, value in facts.flags.items()}
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in held.items():
        attributes = {"name": _clean(key), "value": _clean(value)}
        ElementTree.SubElement(properties, "property", attributes)


def _append(suite: ElementTree.Element, report: Report, case: Case) -> None:
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
