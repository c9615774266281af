"""Assembly of a report from a comparison's state and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity.comparison.levels import judge_numerics, judge_weights
from parity.comparison.request import Request, runtime_of
from parity.comparison.results import (
    ErrorMap,
    InputFacts,
    InputTrial,
    LabelAgreement,
    Level,
    Outcome,
    Prediction,
    Repeatability,
    SubjectFacts,
    WeightFacts,
)
from parity.comparison.state import State
from parity.explain.cause import Cause
from parity.numerics import verdict
from parity.numerics.verdict import FirstDivergence, PointResult
from parity.processes import registry
from parity.processes.machine import environment_facts
from parity.processes.subjects import runs_graph, side_of
from parity.report.model import PairedLayer, Report, decide_verdict
from parity.report.table_layers import list_table_layers
from parity.report.wording import describe_left_out

SEMANTICS_SKIPPED = Level(
    Outcome.SKIPPED, ("not requested: --semantics runs every model in float64",)
)


@dataclass(frozen=True)
class Findings:
    """The results of judging the captures and of the further analysis."""

    stages: tuple[PointResult, ...] = ()
    divergences: tuple[FirstDivergence, ...] = ()
    attribution: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    semantics: Level = SEMANTICS_SKIPPED
    profile: ErrorMap | None = None
    decision: LabelAgreement | None = None
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    class_names: str = ""
    repeat: Repeatability | None = None
    trials: tuple[InputTrial, ...] = ()
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def assemble_report(state: State, findings: Findings, structure: Level, seconds: float) -> Report:
    """Return the report; `seconds` is the duration of the whole comparison."""
    request = state.request
    facts = {name: _collect_subject_facts(state, name) for name in request.subjects}
    levels = {
        "structure": structure,
        "weights": judge_weights(state),
        "semantics": findings.semantics,
        "numerics": judge_numerics(state, findings.stages, findings.trials),
    }
    parameters = 0 if state.table is None else state.table.parameters
    return Report(
        verdict=decide_verdict(subjects=facts, levels=levels, stages=findings.stages),
        model=request.name,
        reference=request.reference_side,
        input=InputFacts(
            state.input.source_type, state.input.array.shape, state.input.sha256, state.input.source
        ),
        weights=WeightFacts(state.weights_sha256, parameters, _describe_weight_source(request)),
        subjects=facts,
        levels=levels,
        stages=findings.stages,
        first_divergence=next(iter(findings.divergences), None)
        or verdict.find_first_divergence(findings.stages),
        divergences=findings.divergences,
        attribution=findings.attribution,
        causes=findings.causes,
        profile=findings.profile,
        decision=findings.decision,
        predictions=findings.predictions,
        class_names=findings.class_names,
        repeat=findings.repeat,
        trials=findings.trials,
        spread=findings.spread,
        layers=_list_layers(state, findings),
        environment=_collect_environment(state),
        notes=_collect_notes(state, findings),
        seconds=seconds,
        limit=request.limit,
        depth=request.depth,
    )


def _list_layers(state: State, findings: Findings) -> tuple[PairedLayer, ...]:
    """Return the layers of the models of both frameworks, where both are compared."""
    request = state.request
    sides = {request.reference_side: request.reference_side}
    for name in request.subjects:
        if not runs_graph(name):
            sides.setdefault(side_of(name), name)
    if state.table is None or len(sides) < 2:
        return ()
    points = {stage.row: stage.name for stage in findings.stages}
    return list_table_layers(state.table, sides, points=points)


def _describe_weight_source(request: Request) -> str:
    source = request.weight_source
    return f"random, seed {request.seed}" if source == "random" else Path(source).name


def _collect_environment(state: State) -> dict[str, Any]:
    gpu = state.placement.gpu
    facts = environment_facts(state.versions)
    return facts if gpu is None else {**facts, "card": gpu.to_json()}


def _collect_notes(state: State, findings: Findings) -> tuple[str, ...]:
    request, placement = state.request, state.placement
    notes = [*findings.notes, *state.notes, *describe_left_out(findings.stages)]
    if placement.note is not None:
        notes.append(placement.note)
    if request.judge_as not in (None, request.precision):
        notes.append(f"computed in {request.precision}, judged by the floor of {request.judge_as}")
    return tuple(notes)


def _collect_subject_facts(state: State, subject: str) -> SubjectFacts:
    request = state.request
    runtime = runtime_of(subject)
    run = state.subjects.get(subject)
    device, precision = state.placement.devices[subject], request.precision
    if run is None:
        failure = str(state.find_failure(subject) or "not run")
        return SubjectFacts(registry.label(runtime), device, precision, failure=failure)
    info = registry.get(runtime)
    name = info.main_package
    backend = next(
        (
            f"{package} {version}"
            for package, version in run.versions.items()
            if info.backends and package not in (name, "python")
        ),
        None,
    )
    gpu = state.placement.facts.get(request.child(subject), {}) if device == "gpu" else {}
    return SubjectFacts(
        runtime=f"{name} {run.versions[name]}",
        backend=backend,
        device=device,
        precision=precision,
        judged_as=request.judge_as,
        flags=run.flags,
        seconds=run.seconds,
        file=_find_given_graph_file(request, subject),
        proof={**run.proof, **gpu},
    )


def _find_given_graph_file(request: Request, subject: str) -> str:
    """Return the ONNX file that the user gave for a subject; "" for an export of this run."""
    if not runs_graph(subject):
        return ""
    path = request.graph_file(side_of(subject))
    return "" if path is None else str(path)
