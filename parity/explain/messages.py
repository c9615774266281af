"""The report's entries for findings: one entry a cause and subject, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from parity.explain.cause import Cause
from parity.explain.findings import Finding, IsolatedFailure, equal_within_rounding
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.search import Attempt, Explanation
from parity.processes import registry
from parity.processes.subjects import is_model_of, runs_graph, side_of
from parity.text import format_ratio

UNKNOWN = "not-explained"
"""The name of the cause in the entry of a layer that no cause explains."""

_NAMES = ("Keras",)
"""What is written with a capital wherever it is."""


def name_framework(subject: str) -> str:
    """Return the framework of a subject's layers for a sentence: "PyTorch", "the ONNX graph"."""
    return "the ONNX graph" if runs_graph(subject) else registry.label(side_of(subject))


def describe_findings(findings: Sequence[Finding]) -> tuple[Cause, ...]:
    """Return the report's entries: one for all layers of one subject with one cause."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_group_key(finding, findings), []).append(finding)
    causes = []
    for group in groups.values():
        subject = group[0].failure.subject
        own = [item for item in group if item.failure.subject == subject]
        graphs = sorted({item.failure.subject for item in group} - {subject})
        causes.append(_describe_group(own, graphs))
    return tuple(causes)


def _group_key(finding: Finding, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return the key of the entry: a graph shares the entry of the model that it was exported from.

    It begins with the subject that the entry names.
    """
    subject = finding.failure.subject
    proof = finding.explanation.proof if finding.explanation else None
    if proof is None:
        models = [o.failure.subject for o in findings if _computes_the_same(finding, o)]
        return (models[0] if models else subject, finding.failure.row.name)
    models = [
        other.failure.subject
        for other in findings
        if is_model_of(other.failure.subject, subject)
        and other.failure.row == finding.failure.row
        and other.explanation is not None
        and other.explanation.proof is not None
        and other.explanation.proof.candidates == proof.candidates
    ]
    return (models[0] if models else subject, *candidate_texts(proof))


def candidate_texts(attempt: Attempt) -> tuple[str, ...]:
    """Return the text of each candidate; in a pair without numbers fitted to one of them alone."""
    if len(attempt.candidates) == 1:
        return (attempt.candidates[0].text,)
    return tuple(candidate.text_without_fit or candidate.text for candidate in attempt.candidates)


def _computes_the_same(graph: Finding, model: Finding) -> bool:
    """Return whether two unexplained layers, a graph's and its model's, are equal
    but for rounding.
    """
    if not is_model_of(model.failure.subject, graph.failure.subject):
        return False
    if model.failure.row != graph.failure.row:
        return False
    if graph.layer is None or model.layer is None:
        return False
    if model.explanation and model.explanation.proof:
        return False
    return equal_within_rounding(
        graph.layer.actual, model.layer.actual, graph.failure.floor, graph.layer.limit
    )


def _describe_group(group: Sequence[Finding], graphs: Sequence[str]) -> Cause:
    first = group[0]
    failure, explanation = first.failure, first.explanation
    if explanation is None or explanation.proof is None:
        return _describe_unexplained(first, graphs)
    rows = [finding.failure.row.name for finding in group[1:]]
    return describe_proof(failure, explanation, rows, graphs)


def describe_proof(
    failure: IsolatedFailure, explanation: Explanation, rows: Sequence[str], graphs: Sequence[str]
) -> Cause:
    """Return the entry of a proven cause of a layer, of further `rows`, and of further `graphs`.

    Raises `ValueError` for an explanation without a proof.
    """
    proof, before = explanation.proof, explanation.x_floor_before
    if proof is None:
        raise ValueError("no cause is proved")
    names = "+".join(dict.fromkeys(candidate.cause for candidate in proof.candidates))
    texts = candidate_texts(proof)
    text = "; and ".join([texts[0], *map(lower_first_word, texts[1:])])
    remedy = "; ".join(dict.fromkeys(candidate.remedy for candidate in proof.candidates))
    where = f" (and {_list_rows(rows)})" if rows else ""
    also = f", and in {', '.join(graphs)}" if graphs else ""
    amplified = ""
    if proof.x_layer_floor > proof.x_floor_after:
        amplified = ", which the change itself makes larger"
    first = proof.candidates[0]
    evidence = {"x_floor_before": before}
    shown = f"{first.proof_method}; the error is {_format_floors(before)}"
    if first.is_measured:
        evidence["x_floor_after"] = proof.x_floor_after
        shown = (
            f"{first.proof_method}, the error falls from {_format_floors(before)} to "
            f"{_format_floors(proof.x_floor_after)}{amplified}"
        )
    message = f"{names}{where}{also}: {text}. {shown}. Remedy: {remedy}"
    evidence = {name: value for name, value in evidence.items() if math.isfinite(value)}
    return Cause(failure.row.name, failure.subject, names, evidence, message, remedy)


def lower_first_word(text: str) -> str:
    """Return a sentence as one that continues another: names keep their capitals."""
    word = text.partition(" ")[0]
    is_name = word in _NAMES or not (word[1:].islower() or len(word) == 1)
    return text if is_name else text[:1].lower() + text[1:]


def _list_rows(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{len(names)} more layers, to {names[-1]}"
    return ", ".join(names)


def _describe_unexplained(finding: Finding, graphs: Sequence[str]) -> Cause:
    failure = finding.failure
    where = "".join([name_framework(failure.subject), *(f", and of {n}," for n in graphs)])
    return describe_unexplained_layer(
        failure,
        finding.layer,
        finding.explanation,
        where=where,
        nondeterministic=finding.nondeterministic,
    )


def describe_unexplained_layer(
    failure: IsolatedFailure,
    layer: FailingLayer | None,
    explanation: Explanation | None,
    *,
    where: str,
    nondeterministic: bool = False,
) -> Cause:
    """Return the entry of a layer without a proven cause; `where` names whose layer it is."""
    before = explanation.x_floor_before if explanation else failure.x_floor
    message = f"not explained: the {failure.row.kind} of {where} differs"
    if layer is None or not layer.pattern.non_finite:
        message += f" ({_format_floors(before)})"
    if layer is None:
        message += "; the reference's layer cannot be evaluated alone, so few causes were tried"
    else:
        message += f"; {layer.pattern.text}"
        if nondeterministic:
            message += (
                "; its output changes between runs, as with active dropout or another random layer"
            )
        if explanation is not None and explanation.ended:
            message += "; the search ended before all pairs of causes were tried"
        if explanation is not None and explanation.weights:
            message += f"; {explanation.weights}"
        closest = explanation.closest if explanation else ()
        if closest:
            message += f"; closest causes, which do not explain it: {_list_attempts(closest)}"
    evidence = {"x_floor_before": before} if math.isfinite(before) else {}
    return Cause(failure.row.name, failure.subject, UNKNOWN, evidence, message)


def _list_attempts(attempts: Sequence[Attempt]) -> str:
    return ", ".join(
        f"{'+'.join(candidate.cause for candidate in attempt.candidates)} "
        f"({_format_floors(attempt.x_layer_floor)})"
        for attempt in attempts
    )


def _format_floors(value: float) -> str:
    if not math.isfinite(value):
        return "another shape" if value > 0 else "no number"
    return f"{format_ratio(value)} the floor"
