"""The findings of a comparison: its captures judged, and differences located and explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parity.commands.class_names import name_predictions
from parity.comparison.attribution import attribute_differences
from parity.comparison.isolation import (
    isolate_failing_layers,
    locate_divergences,
    measure_isolated_errors,
)
from parity.comparison.judging import judge_captures
from parity.comparison.labels import predict_first
from parity.comparison.passes import compare_remaining_passes
from parity.comparison.profile import profile_worst_error
from parity.comparison.repeats import compare_other_inputs, measure_repeatability
from parity.comparison.request import Request
from parity.comparison.runner import Runner
from parity.comparison.semantics import judge_semantics
from parity.comparison.settings import OWN, RANDOM
from parity.comparison.state import Comparison, State
from parity.comparison.stated_models import read_stated_models
from parity.errors import ParityError
from parity.explain import session
from parity.explain.cause import Cause
from parity.numerics import verdict
from parity.numerics.verdict import FirstDivergence, PointResult, find_failing_subjects
from parity.report.assembly import SEMANTICS_SKIPPED, Findings


def judge_and_explain(state: State, runner: Runner) -> tuple[State, Findings]:
    """Judge the captures; locate, attribute and explain their differences.

    A folder of photographs is compared in several passes. The returned state is that of the pass
    whose captures are on disk, which is the one that was explained.
    """
    comparison = state.comparison
    if comparison is None:
        return state, Findings()
    request = state.request
    stages = judge_captures(
        comparison.reference.capture,
        comparison.reference.floors,
        comparison.captures,
        comparison.points,
        comparison.criteria,
    )
    passes = compare_remaining_passes(state, comparison, runner, stages)
    # Of several passes one is explained; the figures of all of them are combined at the end.
    state, stages = passes.state, passes.detail_stages
    comparison = state.comparison or comparison
    try:
        findings = _examine_differences(state, comparison, runner, stages)
    except ParityError as failure:
        # The verdict needs the captures alone, and these are judged.
        note = f"the differences were not examined further: {failure}"
        findings = Findings(stages=tuple(stages), notes=(note,))
    final = comparison.points[-1]
    named = name_predictions(
        predict_first(final.row, comparison.reference.capture, comparison.captures),
        final.shape[-1] if final.shape else 0,
        given=request.labels,
        stated=read_stated_models(request.graph_files),
        checkpoints=_list_checkpoints(request),
        has_trained_weights=request.weight_source != RANDOM,
    )
    trials, spread = compare_other_inputs(
        comparison, runner, _image_shape(state), seeds=request.seeds, stress=request.stress
    )
    semantics = SEMANTICS_SKIPPED
    if request.semantics:
        failures = {
            n: error for n in request.subjects if (error := state.find_failure(n)) is not None
        }
        semantics = judge_semantics(comparison, runner, state.float64, failures)
    repetitions = (
        measure_repeatability(comparison, runner, request.repeat) if request.repeat > 1 else None
    )
    return state, replace(
        findings,
        stages=_add_isolated_errors(passes.stages, findings.stages),
        semantics=semantics,
        decision=passes.decision,
        predictions=named.predictions,
        class_names=named.class_names,
        repeat=repetitions,
        trials=trials,
        spread=spread,
        notes=(*passes.notes, *findings.notes, *named.notes),
    )


def _list_checkpoints(request: Request) -> list[Path]:
    """Return the file that the weights are read from, if any."""
    source = request.weight_source
    return [] if source in (RANDOM, OWN) else [Path(source)]


def _examine_differences(
    state: State, comparison: Comparison, runner: Runner, stages: list[PointResult]
) -> Findings:
    """Isolate, locate, attribute, explain and profile the differences in `stages`."""
    request, captures = state.request, comparison.captures
    differs = verdict.find_first_divergence(stages) is not None
    causes: tuple[Cause, ...] = ()
    if request.explain and (differs or state.failures):
        causes = session.explain_runs(state, comparison, runner, stages)
    # A compiled model's parts cannot be fed, and a subject that is explained needs no isolation.
    explained_subjects = {cause.subject for cause in causes}
    explain = request.explain and not request.xla
    explain = explain and not (differs and find_failing_subjects(stages) <= explained_subjects)
    if captures and (request.isolate or (explain and differs)):
        stages, captures = measure_isolated_errors(comparison, runner, stages)
    layers = isolate_failing_layers(comparison, runner, stages) if differs else None
    divergences: tuple[FirstDivergence, ...] = ()
    attribution: tuple[str, ...] = ()
    proofs: session.NumericProofs = frozenset()
    structural = session.StructuralFindings()
    if request.explain:
        structural = session.explain_structure(state, comparison, runner, layers)
    if differs:
        divergences = locate_divergences(comparison, runner, stages, layers)
        attribution = attribute_differences(comparison, runner, stages)
        if explain and layers is not None:
            explained_layers = structural.explained | {
                (name, layer.row) for name, layer in layers.failures() if name in explained_subjects
            }
            numeric_causes, proofs = session.explain_layers(
                state, comparison, runner, layers, stages, explained_layers
            )
            causes += numeric_causes
            causes += session.explain_float64(state, comparison, runner, layers)
    elif explain and captures:
        causes += session.explain_float64(state, comparison, runner)
    return Findings(
        stages=tuple(stages),
        divergences=divergences,
        attribution=attribution,
        causes=causes + structural.describe(proofs),
        profile=profile_worst_error(
            stages, comparison.reference.capture, captures, comparison.criteria.precisions
        ),
    )


def _image_shape(state: State) -> tuple[int, int, int]:
    channels, height, width = state.input.array.shape[1:]
    return channels, height, width


def _add_isolated_errors(
    stages: Sequence[PointResult], isolated_stages: Sequence[PointResult]
) -> tuple[PointResult, ...]:
    """Return the results of all passes with the isolated errors of the pass that was explained."""
    return tuple(
        replace(stage, isolated=other.isolated, isolated_floor=other.isolated_floor)
        for stage, other in zip(stages, isolated_stages, strict=True)
    )
