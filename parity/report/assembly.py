"""A report from what a comparison knows and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity.comparison.levels import complete_numerics_level, weights_level
from parity.comparison.request import Request, runtime_of
from parity.comparison.results import (
    Decision,
    InputFacts,
    Level,
    Outcome,
    Profile,
    Repeat,
    SubjectFacts,
    Trial,
    WeightFacts,
)
from parity.comparison.state import State
from parity.explain.cause import Cause
from parity.numerics import verdict
from parity.numerics.verdict import FirstDivergence, StageResult
from parity.processes import registry
from parity.processes.machine import environment_facts
from parity.report.model import Report, conclude

NO_SEMANTICS = Level(Outcome.SKIPPED, ("not asked for: --semantics runs every model in float64",))


@dataclass(frozen=True)
class Findings:
    """What judging the captures and looking further has given."""

    stages: tuple[StageResult, ...] = ()
    divergences: tuple[FirstDivergence, ...] = ()
    blame: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    semantics: Level = NO_SEMANTICS
    profile: Profile | None = None
    decision: Decision | None = None
    repeat: Repeat | None = None
    trials: tuple[Trial, ...] = ()
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def assemble(state: State, findings: Findings, structure: Level, seconds: float) -> Report:
    """Put a report together; `seconds` is what the whole comparison took."""
    request = state.request
    facts = {name: _subject_facts(state, name) for name in request.subjects}
    levels = {
        "structure": structure,
        "weights": weights_level(state),
        "semantics": findings.semantics,
        "numerics": complete_numerics_level(state, findings.stages, findings.trials),
    }
    given = state.input
    parameters = 0 if state.table is None else state.table.parameters
    return Report(
        verdict=conclude(subjects=facts, levels=levels, stages=findings.stages),
        model=request.name,
        reference=request.reference_side,
        input=InputFacts(given.source_type, given.array.shape, given.sha256, given.source),
        weights=WeightFacts(state.weights_sha256, parameters, _source(request)),
        subjects=facts,
        levels=levels,
        stages=findings.stages,
        first_divergence=next(iter(findings.divergences), None)
        or verdict.first_divergence(findings.stages),
        divergences=findings.divergences,
        blame=findings.blame,
        causes=findings.causes,
        profile=findings.profile,
        decision=findings.decision,
        repeat=findings.repeat,
        trials=findings.trials,
        spread=findings.spread,
        environment=_environment(state),
        notes=_notes(state, findings),
        seconds=seconds,
        limit=request.limit,
        depth=request.depth,
    )


def _source(request: Request) -> str:
    source = request.weight_source
    return f"random, seed {request.seed}" if source == "random" else Path(source).name


def _environment(state: State) -> dict[str, Any]:
    card = state.placement.card
    facts = environment_facts(state.versions)
    return facts if card is None else {**facts, "card": card.to_json()}


def _notes(state: State, findings: Findings) -> tuple[str, ...]:
    request, placement = state.request, state.placement
    notes = [*findings.notes, *state.notes]
    if placement.note is not None:
        notes.append(placement.note)
    if request.judge_as not in (None, request.precision):
        notes.append(f"computed in {request.precision}, judged by the floor of {request.judge_as}")
    return tuple(notes)


def _subject_facts(state: State, subject: str) -> SubjectFacts:
    request = state.request
    runtime = runtime_of(subject)
    done = state.subjects.get(subject)
    device, precision = state.placement.devices[subject], request.precision
    if done is None:
        failure = str(state.failure(subject) or "it was not run")
        return SubjectFacts(registry.label(runtime), device, precision, failure=failure)
    info = registry.get(runtime)
    name = info.main_package
    backend = next(
        (
            f"{package} {version}"
            for package, version in done.versions.items()
            if info.backends and package not in (name, "python")
        ),
        None,
    )
    card = state.placement.facts.get(request.child(subject), {}) if device == "gpu" else {}
    return SubjectFacts(
        runtime=f"{name} {done.versions[name]}",
        backend=backend,
        device=device,
        precision=precision,
        judged_as=request.judge_as,
        flags=done.flags,
        seconds=done.seconds,
        proof={**done.proof, **card},
    )
