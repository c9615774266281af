"""The explanation of a comparison (`--explain`): causes of runs, of structure and of layers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parity.comparison.isolation import IsolatedLayers, select_layer_points
from parity.comparison.judging import judge_captures
from parity.comparison.request import runtime_of, side_of
from parity.comparison.runner import Runner
from parity.comparison.semantics import SLACK, float64_criteria
from parity.comparison.state import Comparison, Criteria, State
from parity.errors import ParityError
from parity.explain import causes, messages
from parity.explain.cause import Cause
from parity.explain.findings import IsolatedFailure
from parity.explain.proof.candidate import StructuralCause
from parity.explain.reruns import explain_by_reruns
from parity.network import structure
from parity.numerics.verdict import PointResult
from parity.processes import registry
from parity.processes.subjects import runs_graph
from parity.text import format_ratio

if TYPE_CHECKING:
    from parity.explain.layer_explainer import LayerExplainer


def explain_runs(
    state: State, comparison: Comparison, runner: Runner, stages: Sequence[PointResult]
) -> tuple[Cause, ...]:
    """Return the causes in how a subject was run: its session, its precision, its device."""
    return explain_by_reruns(state, comparison, runner, stages, causes.propose_reruns)


ExplainedRows = frozenset[tuple[str, str]]
"""The (subject, row) pairs that have their cause already."""

NumericProofs = frozenset[tuple[str, str, str]]
"""The (runtime, row, cause) triples that are proved by evaluating layers."""


@dataclass(frozen=True)
class StructuralFinding:
    """A cause that the structure proves, and the layers that agree without it."""

    cause: StructuralCause
    repaired: Mapping[str, tuple[float, float]]
    """The errors in floors before and after, by row."""
    labels: Mapping[str, str]
    """The names of the cause's rows in the user's code, by row."""


@dataclass(frozen=True)
class StructuralFindings:
    """The causes that the structure proves; `explained` are the layers that agree without them."""

    findings: tuple[StructuralFinding, ...] = ()
    explained: ExplainedRows = frozenset()

    def describe(self, by_numbers: NumericProofs) -> tuple[Cause, ...]:
        """Return the report's entries, without the layers for which numeric proofs exist."""
        described = []
        for finding in self.findings:
            cause = finding.cause
            left = tuple(
                row for row in cause.layers if (cause.subject, row, cause.cause) not in by_numbers
            )
            if not finding.repaired and len(left) < len(cause.layers):
                cause = replace(cause, layers=left, evidence={"layers": float(len(left))})
            if cause.layers:
                label = finding.labels.get(cause.layers[0], "")
                described.append(_describe(cause, finding.repaired, label))
        return tuple(described)


def explain_structure(
    state: State, comparison: Comparison, runner: Runner, layers: IsolatedLayers | None
) -> StructuralFindings:
    """Return the causes that the structure proves.

    `layers` are run again with surplus layers bypassed, to find those that agree without them.
    """
    if not state.descriptions:
        return StructuralFindings()
    differences = structure.find_differences(
        comparison.table, state.descriptions, reference=state.request.reference_side
    )
    findings, explained = [], set()
    for cause in causes.find_structural_causes(differences):
        repaired = {} if layers is None else _bypass(comparison, runner, layers, cause)
        explained |= {(cause.subject, row) for row in repaired}
        findings.append(StructuralFinding(cause, repaired, _labels(state, cause)))
    return StructuralFindings(tuple(findings), frozenset(explained))


def _labels(state: State, cause: StructuralCause) -> dict[str, str]:
    """Return the names of a cause's rows in the user's code, Conv2D `conv1_conv`, by row."""
    layers = state.descriptions.get(cause.subject, {}).get("layers", ())
    return {
        layer["row"]: f"{layer['class'] or layer['kind']} `{layer['name']}`: "
        for layer in layers
        if layer["row"] in cause.layers
    }


def _describe(
    cause: StructuralCause, repaired: Mapping[str, tuple[float, float]], label: str
) -> Cause:
    first, last = cause.layers[0], cause.layers[-1]
    more = f" ({len(cause.layers)} layers, to {last})" if len(cause.layers) > 1 else ""
    message = f"{cause.cause}{more}: {cause.text}"
    evidence = dict(cause.evidence)
    if repaired:
        before, after = (max(values) for values in zip(*repaired.values(), strict=True))
        evidence |= {"x_floor_before": before, "x_floor_after": after}
        message += (
            f". Without them the errors of {len(repaired)} isolated layers, from "
            f"{next(iter(repaired))} on, fall from {format_ratio(before)} the floor to "
            f"{format_ratio(after)}"
        )
    else:
        message += " (read from the structure, not verified by a run)"
    remedy = f"{label}{cause.remedy}"
    message += f". Remedy: {remedy}"
    return Cause(first, cause.subject, cause.cause, evidence, message, remedy)


def _bypass(
    comparison: Comparison, runner: Runner, layers: IsolatedLayers, cause: StructuralCause
) -> dict[str, tuple[float, float]]:
    """Return the failing layers that agree without surplus layers: errors before and after, by row.

    Only a runtime whose `bypasses_layers` is set can make layers return their input unchanged.
    """
    # The structure is that of a side; the subject's name may have a device too: `torch@cpu`.
    name = next((n for n in comparison.captures if runtime_of(n) == cause.subject), cause.subject)
    failing = {layer.row: layer.subjects[name] for who, layer in layers.failures() if who == name}
    if not cause.bypass or not failing or not registry.get(runtime_of(name)).bypasses_layers:
        return {}
    points = select_layer_points(comparison.table, layers.stages, with_stage_ends=True)
    reference = layers.reference
    try:
        bypassed = runner.run_subject(
            name,
            [point.row for point in points],
            "bypassed",
            feed=reference.capture,
            bypass=tuple(cause.bypass),
        )
    except ParityError:
        # A module that cannot be bypassed leaves the cause to the structure alone.
        return {}
    results = judge_captures(
        reference.capture,
        reference.isolated_floors,
        {name: bypassed.path},
        points,
        comparison.criteria,
    )
    after = {result.row: result.subjects[name] for result in results}
    return {
        row: (before.larger_ratio, after[row].larger_ratio)
        for row, before in failing.items()
        if after[row].status.passes and math.isfinite(before.larger_ratio)
    }


def explain_layers(
    state: State,
    comparison: Comparison,
    runner: Runner,
    layers: IsolatedLayers,
    stages: Sequence[PointResult],
    explained: ExplainedRows = frozenset(),
) -> tuple[tuple[Cause, ...], NumericProofs]:
    """Return the causes of the layers that differ in the compared precision, and their proofs.

    `stages` are the points of the runs without isolation; layers in `explained` are skipped.
    """
    # Not at the top: what explains layers is imported where one differs.
    from parity.explain.layer_explainer import open_explainer

    runner.progress("parity", "explaining")
    precisions = comparison.criteria.precisions
    failures = [_failure(comparison, n, layer, precisions[n]) for n, layer in layers.failures()]
    with open_explainer(
        state,
        comparison.table,
        runner,
        layers.reference.capture,
        layers.captures,
        limit=comparison.criteria.limit,
        stages=stages,
    ) as explainer:
        findings = explainer.explain(
            [f for f in failures if f is not None and not _is_explained(f, explained, explainer)]
        )
        proofs = {
            (runtime_of(item.failure.subject), item.failure.row.name, candidate.cause)
            for item in findings
            if item.explanation is not None and item.explanation.proof is not None
            for candidate in item.explanation.proof.candidates
        }
        return messages.describe_findings(findings), frozenset(proofs)


def _is_explained(
    failure: IsolatedFailure, explained: ExplainedRows, explainer: LayerExplainer
) -> bool:
    """Return whether a layer has its cause; a graph that agrees with its model
    shares the model's.
    """
    row = failure.row.name
    if (failure.subject, row) in explained:
        return True
    if (side_of(failure.subject), row) not in explained:
        return False
    if not runs_graph(failure.subject):
        return True
    return explainer.agrees_with_model(failure.subject, failure.row, failure.floor)


def explain_float64(
    state: State, comparison: Comparison, runner: Runner, layers: IsolatedLayers | None = None
) -> tuple[Cause, ...]:
    """Return the causes of differences that float32 does not show, from isolated layers in float64.

    Those of `layers` that fail in float32 are explained already.
    """
    table = comparison.table
    differences = structure.find_differences(
        table, state.descriptions, reference=state.request.reference_side
    )
    rows = {row.name for row in table.rows}
    seen = set() if layers is None else {layer.row for _, layer in layers.failures()}
    suspects = frozenset(
        item.row
        for item in differences
        if item.row in rows and item.row not in seen and not item.consequence
    )
    described: list[Cause] = []
    for name in comparison.captures:
        reference = name == state.request.reference_side
        if suspects and not runs_graph(name) and not reference:
            runner.progress("parity", f"explaining {name} in float64")
            described += _explain_in_float64(state, comparison, runner, name, suspects)
    return tuple(described)


def _explain_in_float64(
    state: State,
    comparison: Comparison,
    runner: Runner,
    name: str,
    suspects: Collection[str],
) -> tuple[Cause, ...]:
    """Return the causes of the rows `suspects`.

    Other rows may differ only by a constant that a framework stores in float32.
    """
    from parity.explain.layer_explainer import open_explainer

    table, criteria = comparison.table, comparison.criteria
    stages = frozenset(row.stage for row in table.rows if row.name in suspects)
    points = select_layer_points(table, stages, with_stage_ends=True)
    rows = [point.row for point in points]
    reference = runner.run_reference(rows, "explain-float64", isolate=True, accumulate=False)
    try:
        capture = runner.run_float64(name, rows, "explain-float64", table, feed=reference.capture)
    except ParityError:
        # The level "semantics" reports that it cannot be run in float64.
        return ()
    captures: Mapping[str, Path] = {name: capture.path}
    float64: Criteria = float64_criteria(criteria, name)
    results = judge_captures(
        reference.capture, reference.isolated_floors, captures, points, float64
    )
    layers = IsolatedLayers(reference, captures, results, stages)
    failures = [
        _failure(comparison, subject, layer, "float64")
        for subject, layer in layers.failures()
        if layer.row in suspects
    ]
    limit = criteria.limit * SLACK
    with open_explainer(
        state, table, runner, reference.capture, captures, limit=limit
    ) as explainer:
        findings = explainer.explain([item for item in failures if item is not None])
        return messages.describe_findings(findings)


def _failure(
    comparison: Comparison, subject: str, layer: PointResult, precision: str
) -> IsolatedFailure | None:
    """Return the failure of an isolated layer; None where it has no floor."""
    if layer.floor is None:
        return None
    row = comparison.table.by_name(layer.row)
    floor = layer.floor.for_precision(precision)
    return IsolatedFailure(subject, row, floor, layer.subjects[subject].larger_ratio)
