"""The judgement of the levels that need no float64 run: structure, weights and numerics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parity.comparison.request import OWN, side_of
from parity.comparison.results import InputTrial, Level, Outcome
from parity.comparison.runner import Runner
from parity.comparison.state import State
from parity.comparison.structure_summary import summarise_differences
from parity.errors import IncompatibleWeightsError, ParityError
from parity.network import structure, weights
from parity.numerics.floor import PRECISION_FACTORS
from parity.numerics.verdict import PointResult, Status
from parity.processes.subjects import runs_graph
from parity.text import format_ratio

BATCHES = (1, 2, 3)
"""Batch sizes that a given ONNX file is run with, to find out whether its batch is frozen."""

InstrumentationGaps = Mapping[str, Mapping[str, float] | None]
"""By subject, the error of a plain graph's final output against the instrumented graph's."""


def judge_structure(state: State, runner: Runner) -> Level:
    """Judge level 1: compare the models that were built with the table and with each other."""
    if not state.descriptions or state.table is None:
        return Level(Outcome.SKIPPED, ("no model was built",))
    differences = structure.find_differences(
        state.table, state.descriptions, reference=state.request.reference_side
    )
    messages = [*summarise_differences(differences)]
    for subject, description in state.further_descriptions.items():
        others = structure.find_differences(state.table, {side_of(subject): description})
        messages += [
            f"{subject}: {line}" for line in summarise_differences(others) if line not in messages
        ]
        differences += others
    messages += _describe_frozen_batches(state, runner)
    return Level(Outcome.FAIL if differences else Outcome.PASS, tuple(messages))


def _describe_frozen_batches(state: State, runner: Runner) -> list[str]:
    """Return a note for each given ONNX file that cannot be run at other batch sizes.

    A frozen batch is not a failure: it may be intended. The numerics judge the batch compared.
    """
    lines = []
    for subject in state.request.subjects:
        has_file = state.request.graph_file(side_of(subject)) is not None
        if not runs_graph(subject) or not has_file:
            continue
        try:
            refusals = runner.find_refused_batches(subject, BATCHES)
        except ParityError:
            # The failure of a graph that cannot be run at all is reported with the subject.
            continue
        if refusals:
            lines.append(f"{subject}: its batch dimension is frozen: {'; '.join(refusals)}")
    return lines


def judge_weights(state: State) -> Level:
    """Judge level 2: every model holds the same weights, bit for bit."""
    if state.request.weight_source != OWN:
        if state.weights is None:
            return Level(Outcome.SKIPPED, ("no weights were available",))
        refusals = [
            f"{side}: {error}"
            for side, error in state.model_failures.items()
            if isinstance(error, IncompatibleWeightsError)
        ]
        # The children read every weight back; a difference has raised WeightError.
        return Level(Outcome.FAIL, tuple(refusals)) if refusals else Level(Outcome.PASS)
    reference = state.request.reference_side
    if len(state.own_weights) < 2 or state.table is None:
        return Level(Outcome.SKIPPED, ("only one model has weights of its own",))
    expected = weights.load(state.own_weights[reference], state.table)
    lines = []
    for side, path in state.own_weights.items():
        if side != reference:
            table = state.table.select_side(side)
            common = {w.name: expected[w.name] for _, w in table.weights()}
            differences = weights.describe_differences(common, weights.load(path, table))
            lines += [f"{side} against {reference}: {line}" for line in differences]
    return Level(Outcome.FAIL, tuple(lines)) if lines else Level(Outcome.PASS)


def judge_points(stages: Sequence[PointResult]) -> Level:
    """Judge level 4 at the comparison points alone: every subject must pass at every point."""
    statuses = [result.status for stage in stages for result in stage.subjects.values()]
    if any(status.is_failure for status in statuses):
        return Level(Outcome.FAIL)
    if statuses and all(status.passes for status in statuses):
        return Level(Outcome.PASS)
    missing = statuses.count(Status.MISSING)
    reason = f"{missing} of {len(statuses)} comparisons could not be made"
    return Level(Outcome.SKIPPED, (reason if statuses else "nothing was compared",))


def judge_numerics(
    state: State, stages: Sequence[PointResult], trials: Sequence[InputTrial]
) -> Level:
    """Judge level 4: the points, the other inputs and the instrumentation gaps."""
    level = judge_points(stages)
    messages = [*level.messages, *describe_failing_trials(trials)]
    instrumentation_gaps = {name: run.instrumentation_gap for name, run in state.subjects.items()}
    limit = state.request.limit * PRECISION_FACTORS[state.request.precision]
    messages += describe_instrumentation_gaps(stages, instrumentation_gaps, limit)
    if len(messages) > len(level.messages):
        return Level(Outcome.FAIL, tuple(messages))
    return level


def describe_failing_trials(trials: Sequence[InputTrial]) -> list[str]:
    """Return a sentence for each other input on which a subject differs."""
    return [
        f"input '{trial.name}': {trial.subject} is {trial.status} at {trial.stage}, "
        f"{format_ratio(max(trial.x_floor, trial.x_floor_max))} the floor"
        for trial in trials
        if not trial.status.passes
    ]


def describe_instrumentation_gaps(
    stages: Sequence[PointResult], instrumentation_gaps: InstrumentationGaps, limit: float
) -> list[str]:
    """Return a sentence for each plain graph whose output differs from the instrumented graph's.

    The plain graph is the one that is deployed; the instrumented graph is the one that is captured.
    `limit` is in floors of float32.
    """
    last = next((stage for stage in reversed(stages) if stage.floor is not None), None)
    if last is None or last.floor is None:
        return []
    return [
        f"{name}: at {last.name}, the plain graph differs from the instrumented graph by "
        f"{gap['max_abs']:.1e}: the stages reported are not those of the deployed graph"
        for name, gap in instrumentation_gaps.items()
        if gap and not gap["rel_l2"] <= limit * last.floor.rel_l2
    ]
