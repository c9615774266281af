"""What was found of the wrong layers, in the words of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from parity.explain.cause import Cause
from parity.explain.findings import Finding, close
from parity.explain.proof.search import Trial
from parity.processes import registry
from parity.processes.subjects import is_model_of, runs_graph, side_of

UNKNOWN = "not-explained"
"""The name of what no cause explains."""


def describe_framework(subject: str) -> str:
    """What a subject's layers are part of, for a text: "PyTorch", "the ONNX graph"."""
    return "the ONNX graph" if runs_graph(subject) else registry.label(side_of(subject))


def told(findings: Sequence[Finding]) -> tuple[Cause, ...]:
    """The causes as the report has them: one entry for all layers of one subject and one cause."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_key(finding, findings), []).append(finding)
    causes = []
    for group in groups.values():
        own = [item for item in group if item.wrong.subject == group[0].wrong.subject]
        heirs = sorted({item.wrong.subject for item in group} - {group[0].wrong.subject})
        causes.append(_cause(own, heirs))
    return tuple(causes)


def _key(finding: Finding, findings: Sequence[Finding]) -> tuple[str, ...]:
    trial = finding.explanation.found if finding.explanation else None
    if trial is None:
        same = [o.wrong.subject for o in findings if _computes_the_same(finding, o)]
        subject = finding.wrong.subject
        return (same[0] if same else subject, finding.wrong.row.name)
    # A graph shares the entry of the model that it was exported from.
    owners = [
        other.wrong.subject
        for other in findings
        if is_model_of(other.wrong.subject, finding.wrong.subject)
        and other.wrong.row == finding.wrong.row
        and other.explanation is not None
        and other.explanation.found is not None
        and other.explanation.found.candidates == trial.candidates
    ]
    return (*(owners or [finding.wrong.subject])[:1], *texts(trial))


def texts(trial: Trial) -> tuple[str, ...]:
    """What each candidate says: beside another, no number that was fitted to it alone."""
    if len(trial.candidates) == 1:
        return (trial.candidates[0].text,)
    return tuple(candidate.vague or candidate.text for candidate in trial.candidates)


def _computes_the_same(graph: Finding, model: Finding) -> bool:
    """Whether a graph's layer, not explained either, is that of its model to within rounding."""
    if not is_model_of(model.wrong.subject, graph.wrong.subject):
        return False
    if model.wrong.row != graph.wrong.row:
        return False
    if graph.case is None or model.case is None or (model.explanation and model.explanation.found):
        return False
    return close(graph.case.actual, model.case.actual, graph.wrong.floor, graph.case.limit)


def _cause(group: Sequence[Finding], heirs: Sequence[str]) -> Cause:
    first = group[0]
    wrong, explanation = first.wrong, first.explanation
    before = explanation.before if explanation else wrong.x_floor
    if explanation is None or explanation.found is None:
        return _unexplained(first, before, heirs)
    trial = explanation.found
    names = "+".join(dict.fromkeys(candidate.cause for candidate in trial.candidates))
    text = "; and ".join(texts(trial))
    remedy = "; ".join(dict.fromkeys(candidate.remedy for candidate in trial.candidates))
    where = f" (and {_layers(group[1:])})" if len(group) > 1 else ""
    also = f", and in {', '.join(heirs)}" if heirs else ""
    carried = ", which is larger behind what is applied" if trial.alone > trial.after else ""
    message = (
        f"{names}{where}{also}: {text}. {trial.candidates[0].shown}, the error falls from "
        f"{_floors(before)} to {_floors(trial.after)}{carried}. Remedy: {remedy}"
    )
    evidence = {"x_floor_before": before, "x_floor_after": trial.after}
    evidence = {name: value for name, value in evidence.items() if math.isfinite(value)}
    return Cause(wrong.row.name, wrong.subject, names, evidence, message)


def _layers(rest: Sequence[Finding]) -> str:
    names = [finding.wrong.row.name for finding in rest]
    if len(names) > 3:
        return f"{len(names)} more layers, to {names[-1]}"
    return ", ".join(names)


def _unexplained(finding: Finding, before: float, heirs: Sequence[str]) -> Cause:
    wrong, case = finding.wrong, finding.case
    where = "".join([describe_framework(wrong.subject), *(f", and of {n}," for n in heirs)])
    message = f"not explained: the {wrong.row.kind} of {where} is {_floors(before)} away"
    if case is None:
        message += "; the reference's layer could not be run alone, so nothing could be tried"
    else:
        message += f"; {case.fingerprint.text}"
        if finding.changes:
            message += ", and it changes between runs, as with a dropout or other noise that is on"
        nearest = finding.explanation.closest if finding.explanation else ()
        if nearest:
            message += f"; closest, without explaining it: {_closest(nearest)}"
    evidence = {"x_floor_before": before} if math.isfinite(before) else {}
    return Cause(wrong.row.name, wrong.subject, UNKNOWN, evidence, message)


def _closest(trials: Sequence[Trial]) -> str:
    return ", ".join(
        f"{'+'.join(candidate.cause for candidate in trial.candidates)} ({_floors(trial.alone)})"
        for trial in trials
    )


def _floors(value: float) -> str:
    if not math.isfinite(value):
        return "another shape" if value > 0 else "no number"
    return f"{value:.2g}x the floor" if value < 1e4 else f"{value:.1e}x the floor"
