"""Assembly of a report from a comparison of graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.comparison.graphs.isolation import criteria
from parity.comparison.graphs.missing import find_missing_operation
from parity.comparison.graphs.precisions import describe_row_precisions
from parity.comparison.graphs.request import GraphSubject
from parity.comparison.graphs.shared_weights import describe_shared
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import locate, main_node
from parity.comparison.graphs.uncopied import describe_uncopied
from parity.comparison.levels import describe_failing_trials, judge_points
from parity.comparison.results import (
    InputFacts,
    InputTrial,
    Level,
    Outcome,
    Prediction,
    Repeatability,
    SubjectFacts,
    WeightFacts,
)
from parity.comparison.state import ReferenceRun, SubjectCapture
from parity.explain.cause import Cause
from parity.explain.graph_layers import GraphFinding
from parity.explain.messages import UNKNOWN
from parity.network.alignment.families import is_pass_through
from parity.numerics.verdict import FirstDivergence, PointResult, find_first_divergence
from parity.processes import registry
from parity.processes.machine import environment_facts
from parity.report.model import PairedLayer, Report, decide_verdict
from parity.report.paired_layers import list_paired_layers
from parity.report.wording import describe_left_out

PASS = Level(Outcome.PASS)

SKIPPED = Level(Outcome.SKIPPED, ("not requested: --semantics runs every model in float64",))


@dataclass(frozen=True)
class GraphFindings:
    """The results of judging the captures and of the further analysis."""

    stages: tuple[PointResult, ...] = ()
    runs: Mapping[str, SubjectCapture] | None = None
    reference: ReferenceRun | None = None
    divergences: tuple[FirstDivergence, ...] = ()
    causes: tuple[Cause, ...] = ()
    explanations: tuple[GraphFinding, ...] = ()
    """What the causes describe: the evidence on each failing layer, and the proof."""
    followers: frozenset[tuple[str, str]] = frozenset()
    """Subjects and layers that read what another layer gives in another shape: they differ too."""
    structure: Level = PASS
    weights: Level = PASS
    semantics: Level = SKIPPED
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    class_names: str = ""
    repeat: Repeatability | None = None
    trials: tuple[InputTrial, ...] = ()
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_explained: bool = True
    """Whether the search for causes came to its end; a failure is in the notes."""


def assemble_graph_report(state: GraphState, findings: GraphFindings, seconds: float) -> Report:
    """Return the report; `seconds` is the duration of the whole comparison."""
    request, reference = state.request, state.reference
    names = [subject.name for subject in state.subjects]
    names += [name for name in state.failures if name not in names]
    facts = {name: _collect_facts(state, findings, name) for name in names}
    levels = {
        "structure": findings.structure,
        "weights": findings.weights,
        "semantics": findings.semantics,
        "numerics": _judge_numerics(findings),
    }
    arrays = reference.inputs.arrays
    first = next(iter(arrays.values()), None)
    return Report(
        verdict=decide_verdict(subjects=facts, levels=levels, stages=findings.stages),
        model=state.model_name,
        reference=reference.subject.name,
        input=InputFacts(
            "arrays",
            () if first is None else tuple(first.shape),
            reference.inputs.sha256,
            reference.inputs.source,
        ),
        weights=WeightFacts(
            state.weights_sha256,
            sum(each.size for each in reference.graph.parameters if each.trainable),
            state.weight_source,
        ),
        subjects=facts,
        levels=levels,
        stages=findings.stages,
        first_divergence=next(iter(findings.divergences), None)
        or find_first_divergence(findings.stages),
        divergences=findings.divergences,
        causes=findings.causes,
        predictions=findings.predictions,
        class_names=findings.class_names,
        repeat=findings.repeat,
        trials=findings.trials,
        spread=findings.spread,
        locations=_collect_locations(state, findings),
        layers=_list_layers(state, findings),
        environment=_collect_environment(state),
        notes=_collect_notes(state, findings),
        seconds=seconds,
        limit=request.limit,
        depth=request.depth,
    )


def _judge_numerics(findings: GraphFindings) -> Level:
    """Judge level 4: the points, and the other inputs."""
    level = judge_points(findings.stages)
    messages = describe_failing_trials(findings.trials)
    return Level(Outcome.FAIL, (*level.messages, *messages)) if messages else level


def _collect_environment(state: GraphState) -> dict[str, Any]:
    gpu = state.placement.gpu
    facts = environment_facts(
        {model.subject.child: model.versions for model in state.models.values()}
    )
    return facts if gpu is None else {**facts, "card": gpu.to_json()}


def _collect_notes(state: GraphState, findings: GraphFindings) -> tuple[str, ...]:
    request = state.request
    explained = {(each.subject, each.layer) for each in findings.causes if each.cause != UNKNOWN}
    notes = [*findings.notes, *state.notes]
    notes += describe_uncopied(state, findings.divergences, explained)
    notes += describe_shared(state)
    notes += describe_left_out(findings.stages)
    if state.placement.note is not None:
        notes.append(state.placement.note)
    rows = criteria(state).row_precisions
    notes += [describe_row_precisions(name, own) for name, own in rows.items() if own]
    if request.judge_as not in (None, request.precision):
        notes.append(f"computed in {request.precision}, judged by the floor of {request.judge_as}")
    return tuple(dict.fromkeys(notes))


def _collect_facts(state: GraphState, findings: GraphFindings, name: str) -> SubjectFacts:
    model = state.models.get(name)
    request = state.request
    if model is None:
        subject = next((each for each in state.subjects if each.name == name), None)
        label = "" if subject is None else subject.runtime_label
        device = state.placement.devices.get(name, "cpu")
        return SubjectFacts(label, device, request.precision, failure=state.failures.get(name))
    info = registry.get(model.subject.runtime)
    package = info.main_package
    run = (findings.runs or {}).get(name)
    on_gpu = model.subject.device == "gpu"
    gpu = state.placement.facts.get(model.subject.child, {}) if on_gpu else {}
    return SubjectFacts(
        runtime=f"{package} {model.versions.get(package, '')}".strip(),
        device=model.subject.device,
        precision=request.precision,
        judged_as=request.judge_as,
        seconds={
            "load": model.seconds,
            **({} if run is None else {"run": float(run.facts["seconds"])}),
        },
        failure=state.failures.get(name),
        file=_find_file(model.subject),
        proof={**gpu, **({} if run is None else run.facts.get("proof", {}))},
    )


def _find_file(subject: GraphSubject) -> str:
    """Return the ONNX file that the user gave for a subject; "" for another model."""
    path = None if subject.reference is None else subject.reference.onnx_file
    return "" if path is None else str(path)


def _collect_locations(state: GraphState, findings: GraphFindings) -> dict[str, dict[str, str]]:
    """Return, for each layer that differs or has a cause, where it is written on every side."""
    rows = [each.layer for each in findings.divergences if each.layer is not None]
    rows += [cause.layer for cause in findings.causes]
    known = {row.name: row for row in state.table.rows}
    found: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(rows):
        row = known.get(name)
        if row is None:
            continue
        reference = state.reference
        found[name] = {reference.subject.name: locate(reference.graph.by_id[row.node])}
        for subject, nodes in row.nodes.items():
            node = main_node(state.models[subject].graph, nodes)
            if node is not None:
                found[name][subject] = locate(node)
    for subject, name in _list_failing(findings):
        missing = find_missing_operation(state, subject, known[name]) if name in known else None
        if missing is not None and subject in found[name]:
            found[name][subject] += (
                f", without the {missing.node.kind} {locate(missing.node)} behind "
                f"{locate(missing.before)}"
            )
    return found


def _list_layers(state: GraphState, findings: GraphFindings) -> tuple[PairedLayer, ...]:
    nodes = {row.name: row.node for row in state.table.rows}
    reference = state.reference
    graphs = {name: model.graph for name, model in state.models.items()}
    graphs[reference.subject.name] = reference.graph
    return list_paired_layers(
        reference.subject.name,
        graphs,
        {name: each for name, each in state.alignments.items() if name in state.models},
        points={nodes[stage.row]: stage.name for stage in findings.stages if stage.row in nodes},
    )


def _list_failing(findings: GraphFindings) -> list[tuple[str, str]]:
    """Return the subjects and rows that differ or have a cause, each once."""
    pairs = [
        (subject, each.layer)
        for each in findings.divergences
        if each.layer is not None
        for subject in each.subjects
    ]
    pairs += [(cause.subject, cause.layer) for cause in findings.causes]
    return list(dict.fromkeys(pairs))


_FEW_OPERATIONS = 3
"""As many operations without a partner are a place to look at; more are another way to write."""


def describe_unpaired(state: GraphState, causes: Sequence[Cause] = ()) -> list[str]:
    """Return a sentence for each model that has layers without a partner.

    Of a subject with a difference that no cause explains, also operations without weights, where
    they are few: one of them may be what the other model lacks.
    """
    unexplained = {each.subject for each in causes if each.cause == UNKNOWN}
    lines = []
    for name, alignment in state.alignments.items():
        if name not in state.models:
            continue  # It could not be run.
        reference, model = state.reference, state.models[name]
        for ids, graph, owner in (
            (alignment.unpaired_reference, reference.graph, reference.subject.name),
            (alignment.unpaired_other, model.graph, name),
        ):
            other = name if owner == reference.subject.name else reference.subject.name
            nodes = [graph.by_id[each] for each in ids if each in graph.by_id]
            weighted = [node for node in nodes if node.parameters]
            if weighted:
                lines.append(
                    f"{_count(weighted, owner)} no partner in {other}: "
                    f"{_list([locate(node) for node in weighted])}"
                )
            plain = [node for node in nodes if not node.parameters and not is_pass_through(node)]
            if name in unexplained and 0 < len(plain) <= _FEW_OPERATIONS:
                places = [f"{node.operation} in {locate(node)}" for node in plain]
                verb = "has" if len(plain) == 1 else "have"
                lines.append(f"{owner}: {_list(places)} {verb} no partner in {other}")
    return lines


def _count(nodes: Sequence[Any], owner: str) -> str:
    return (
        f"1 layer with weights of {owner} has"
        if len(nodes) == 1
        else f"{len(nodes)} layers with weights of {owner} have"
    )


def _list(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
