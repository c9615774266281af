"""A comparison from beginning to end: start the children, let them work, judge what they made."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parity.commands import saved_captures
from parity.commands.diff import strayed
from parity.comparison import details, investigate, passes
from parity.comparison.flow import Flow
from parity.comparison.placement import Placement, confirm, plan
from parity.comparison.request import OWN, Request, runtime_of, side_of
from parity.errors import OutputError, ParityError, WeightsRefused
from parity.explain import session, structural
from parity.network import structure, weights
from parity.numerics import verdict
from parity.numerics.floor import PRECISIONS
from parity.numerics.verdict import FirstDivergence, StageResult
from parity.processes import cache, registry
from parity.processes.children import Children
from parity.processes.machine import environment_facts
from parity.processes.subjects import runs_graph
from parity.report.model import (
    Cause,
    Decision,
    InputFacts,
    Level,
    Outcome,
    Profile,
    Repeat,
    Report,
    SubjectFacts,
    Trial,
    WeightFacts,
    conclude,
    numerics,
)

Progress = Callable[[str, str], None]

BATCHES = (1, 2, 3)
"""What a given ONNX file is run at, to see whether its batch is frozen."""

NO_SEMANTICS = Level(Outcome.SKIPPED, ("not asked for: --semantics runs every model in float64",))


@dataclass(frozen=True)
class Judgement:
    """What the captures say, and what was found by looking further."""

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


def compare(
    model: str | None = None, *, progress: Progress = lambda runtime, text: None, **options: Any
) -> Report:
    """Compare a model's subjects with the float64 reference and with each other.

    `model` and `options` are the fields of `Request`. Raises the `ParityError` of
    bad input; a runtime that cannot be had is told in the report, whose verdict is then `unknown`.
    """
    return run(Request(model=model, **options), progress=progress)


def run(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = lambda runtime, text: None,
) -> Report:
    """Do what `request` asks for; `children` may be importing their frameworks already.

    They must then have been started as `placement` says.
    """
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if children is None:
            placement = plan(request)
            children = stack.enter_context(
                Children(python=request.python, timeout=request.timeout, gpu=placement.gpu)
            )
            children.start(request.runtimes)
        placement = confirm(placement or plan(request), request, children)
        folder = stack.enter_context(_working_folder(request.save_captures))
        flow = Flow(request, children, folder, progress, placement)
        flow.execute()
        judgement = _judge(flow) if request.judged else Judgement()
        report = _report(flow, judgement, time.perf_counter() - started)
        if request.save_captures is not None:
            _keep(flow, request.save_captures, report)
    if request.cache:
        cache.prune()
    return report


@contextlib.contextmanager
def _working_folder(beside: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards; in `beside`, which captures are to be moved to."""
    if beside is not None:
        try:
            beside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{beside}: cannot be a folder: {error.strerror}") from error
    # Captures of a large model are gigabytes: where they stay, they need not be copied.
    with tempfile.TemporaryDirectory(prefix=".parity-", dir=beside) as name:
        yield Path(name)


def _judge(flow: Flow) -> Judgement:
    """Compare the captures; where something differs, look for the layer and the culprit."""
    if flow.reference.exception() is not None:
        return Judgement()
    reference = flow.reference.result()
    captures = {name: run.capture for name, run in flow.subjects.items()}
    cuts = flow.table.result().cuts(flow.request.depth)
    stages = investigate.compare(flow, reference.capture, reference.floors, captures, cuts)
    request = flow.request
    whole = passes.rest(flow, stages)
    # Of a folder, one pass is looked into; what all of them say is put together at the end.
    stages = whole.held
    wrong = verdict.first_divergence(stages) is not None
    causes = session.runs(flow, stages) if request.explain and (wrong or flow.failures) else ()
    # A compiled model's parts cannot be fed, and what is explained needs no look at its layers.
    explained = {cause.subject for cause in causes}
    explain = request.explain and not request.xla and not (wrong and _diverged(stages) <= explained)
    if captures and (request.isolate or (explain and wrong)):
        stages = investigate.isolate(flow, stages)
    divergences: tuple[FirstDivergence, ...] = ()
    blame: tuple[str, ...] = ()
    layers = investigate.faulty_layers(flow, stages) if wrong else None
    proved: session.Proved = frozenset()
    shaped, settled = session.structural(flow, layers) if request.explain else ((), frozenset())
    if wrong:
        divergences = investigate.drill_down(flow, stages, layers)
        blame = investigate.blame(flow, stages)
        if explain and layers is not None:
            known = {(name, layer.row) for name, layer in layers.wrong() if name in explained}
            numeric, proved = session.numeric(flow, layers, stages, settled | known)
            causes += numeric
            causes += session.semantic(flow, layers)
    elif explain and captures:
        causes += session.semantic(flow)
    trials, spread = details.trials(flow, seeds=request.seeds, stress=request.stress)
    return Judgement(
        stages=_told(whole.stages, stages),
        divergences=divergences,
        blame=blame,
        causes=causes + session.told(shaped, proved),
        semantics=investigate.semantics(flow) if request.semantics else NO_SEMANTICS,
        profile=details.worst_profile(flow, stages),
        decision=whole.decision,
        notes=whole.notes,
        repeat=details.repeat(flow, request.repeat) if request.repeat > 1 else None,
        trials=trials,
        spread=spread,
    )


def _told(whole: Sequence[StageResult], held: Sequence[StageResult]) -> tuple[StageResult, ...]:
    """All passes' figures, with the isolated ones of the pass that was looked into."""
    return tuple(
        replace(stage, isolated=looked.isolated, isolated_floor=looked.isolated_floor)
        for stage, looked in zip(whole, held, strict=True)
    )


def _diverged(stages: Sequence[StageResult]) -> set[str]:
    """The subjects that do not pass."""
    return {n for stage in stages for n, r in stage.subjects.items() if not r.status.passes}


def _report(flow: Flow, judgement: Judgement, seconds: float) -> Report:
    request = flow.request
    facts = {name: _subject_facts(flow, name) for name in request.subjects}
    levels = {
        "structure": _structure(flow),
        "weights": _weights(flow),
        "semantics": judgement.semantics,
        "numerics": _numerics(flow, judgement),
    }
    given = flow.input.result()
    digest = "" if flow.digest.exception() else flow.digest.result()
    parameters = 0 if flow.table.exception() else flow.table.result().parameters
    return Report(
        verdict=conclude(subjects=facts, levels=levels, stages=judgement.stages),
        model=request.name,
        reference=request.reference_side,
        input=InputFacts(given.kind, given.array.shape, given.sha256, given.source),
        weights=WeightFacts(digest, parameters, _source(request)),
        subjects=facts,
        levels=levels,
        stages=judgement.stages,
        first_divergence=next(iter(judgement.divergences), None)
        or verdict.first_divergence(judgement.stages),
        divergences=judgement.divergences,
        blame=judgement.blame,
        causes=judgement.causes,
        profile=judgement.profile,
        decision=judgement.decision,
        repeat=judgement.repeat,
        trials=judgement.trials,
        spread=judgement.spread,
        environment=_environment(flow),
        notes=_notes(flow, judgement),
        seconds=seconds,
        limit=request.limit,
        depth=request.depth,
    )


def _source(request: Request) -> str:
    source = request.weight_source
    return f"random, seed {request.seed}" if source == "random" else Path(source).name


def _environment(flow: Flow) -> dict[str, Any]:
    card = flow.placement.card
    facts = environment_facts(flow.versions)
    return facts if card is None else {**facts, "card": card.to_json()}


def _notes(flow: Flow, judgement: Judgement) -> tuple[str, ...]:
    request, notes = flow.request, list(judgement.notes)
    if flow.placement.note is not None:
        notes.append(flow.placement.note)
    if request.judge_as not in (None, request.precision):
        notes.append(f"computed in {request.precision}, judged by the floor of {request.judge_as}")
    return tuple(notes)


def _subject_facts(flow: Flow, subject: str) -> SubjectFacts:
    runtime = runtime_of(subject)
    done = flow.subjects.get(subject)
    device, precision = flow.placement.devices[subject], flow.request.precision
    if done is None:
        failure = str(flow.failure(subject) or "it was not run")
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
    card = flow.placement.facts.get(flow.request.child(subject), {}) if device == "gpu" else {}
    return SubjectFacts(
        runtime=f"{name} {done.versions[name]}",
        backend=backend,
        device=device,
        precision=precision,
        judged_as=flow.request.judge_as,
        flags=done.flags,
        seconds=done.seconds,
        proof={**done.proof, **card},
    )


def _structure(flow: Flow) -> Level:
    """Level 1: the models that were built against the table and each other."""
    if not flow.descriptions:
        return Level(Outcome.SKIPPED, ("no model was built",))
    found = structure.check(
        flow.table.result(), flow.descriptions, reference=flow.request.reference_side
    )
    told = [*structural.summary(found)]
    for subject, description in flow.further_descriptions.items():
        others = structure.check(flow.table.result(), {side_of(subject): description})
        told += [f"{subject}: {line}" for line in structural.summary(others) if line not in told]
        found += others
    return Level(Outcome.FAIL if found else Outcome.PASS, (*told, *_batches(flow)))


def _batches(flow: Flow) -> tuple[str, ...]:
    """A line for each given ONNX file that cannot be run at other batch sizes: no failure here.

    Whoever deploys a fixed batch has meant it; at the batch compared, the numbers decide.
    """
    told = []
    for subject in flow.request.subjects:
        side = side_of(subject)
        if not runs_graph(subject) or flow.request.graph_file(side) is None:
            continue
        try:
            refused = flow.children[flow.request.child(subject)].call(
                "batches", handle=subject, x=str(flow.captures.input), counts=list(BATCHES)
            )["refused"]
        except ParityError:
            # That it cannot be run at all is told with the subject.
            continue
        if refused:
            told.append(f"{subject}: its batch dimension is frozen: {'; '.join(refused)}")
    return tuple(told)


def _weights(flow: Flow) -> Level:
    """Level 2: each model was given the same bits and holds them, or its own are the same."""
    if flow.request.weight_source != OWN:
        if flow.weights.exception() is not None:
            return Level(Outcome.SKIPPED, ("there were no weights",))
        refused = [
            f"{side}: {error}"
            for side, error in flow.side_failures.items()
            if isinstance(error, WeightsRefused)
        ]
        # The children read every bit back; one that found another has raised WeightError.
        return Level(Outcome.FAIL, tuple(refused)) if refused else Level(Outcome.PASS)
    if len(flow.own_weights) < 2:
        return Level(Outcome.SKIPPED, ("only one model has weights of its own",))
    reference = flow.request.reference_side
    table = flow.table.result()
    expected = weights.load(flow.own_weights[reference], table)
    told = []
    for side, path in flow.own_weights.items():
        if side != reference:
            held = table.held_by(side)
            shared = {w.name: expected[w.name] for _, w in held.weights()}
            found = weights.differences(shared, weights.load(path, held))
            told += [f"{side} against {reference}: {line}" for line in found]
    return Level(Outcome.FAIL, tuple(told)) if told else Level(Outcome.PASS)


def _numerics(flow: Flow, judgement: Judgement) -> Level:
    """Level 4: the cuts, and that the instrumented graphs compute what the plain ones do."""
    stages = judgement.stages
    level = numerics(stages)
    told = list(level.messages)
    told += [
        f"on the input '{trial.name}' {trial.subject} is {trial.status} at {trial.stage}: "
        f"{max(trial.x_floor, trial.x_floor_max):.3g}x the floor"
        for trial in judgement.trials
        if not trial.status.passes
    ]
    apart = {name: done.instrumented for name, done in flow.subjects.items()}
    told += strayed(stages, apart, flow.request.limit * PRECISIONS[flow.request.precision])
    if len(told) > len(level.messages):
        return Level(Outcome.FAIL, tuple(told))
    return level


def _keep(flow: Flow, folder: Path, report: Report) -> None:
    """Move the captures to where the user wants them."""
    if flow.reference.exception() is not None:
        return
    reference = flow.reference.result()
    kept = {name: run.capture for name, run in flow.subjects.items()}
    saved_captures.keep(
        folder,
        {**kept, saved_captures.REFERENCE: reference.capture},
        report,
        cuts=flow.table.result().cuts(flow.request.depth),
        floors=reference.floors,
        apart={name: run.instrumented for name, run in flow.subjects.items()},
    )
