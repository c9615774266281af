"""The levels of parity that need no float64 run: structure, weights and numerics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parity.comparison.request import OWN, side_of
from parity.comparison.results import Level, Outcome, Trial
from parity.comparison.runner import Runner
from parity.comparison.state import State
from parity.comparison.structure_summary import summary
from parity.errors import IncompatibleWeightsError, ParityError
from parity.network import structure, weights
from parity.numerics.floor import PRECISIONS
from parity.numerics.verdict import StageResult, Status
from parity.processes.subjects import runs_graph

BATCHES = (1, 2, 3)
"""What a given ONNX file is run at, to see whether its batch is frozen."""

Gaps = Mapping[str, Mapping[str, float] | None]
"""By subject, the distance of a plain graph's final output from the instrumented graph's."""


def structure_level(state: State, runner: Runner) -> Level:
    """Level 1: the models that were built against the table and each other."""
    if not state.descriptions or state.table is None:
        return Level(Outcome.SKIPPED, ("no model was built",))
    found = structure.check(state.table, state.descriptions, reference=state.request.reference_side)
    messages = [*summary(found)]
    for subject, description in state.further_descriptions.items():
        others = structure.check(state.table, {side_of(subject): description})
        messages += [f"{subject}: {line}" for line in summary(others) if line not in messages]
        found += others
    messages += _frozen_batches(state, runner)
    return Level(Outcome.FAIL if found else Outcome.PASS, tuple(messages))


def _frozen_batches(state: State, runner: Runner) -> list[str]:
    """A line for each given ONNX file that cannot be run at other batch sizes: no failure here.

    Whoever deploys a fixed batch has meant it; at the batch compared, the numbers decide.
    """
    lines = []
    for subject in state.request.subjects:
        given = state.request.graph_file(side_of(subject)) is not None
        if not runs_graph(subject) or not given:
            continue
        try:
            refused = runner.refused_batches(subject, BATCHES)
        except ParityError:
            # A graph that cannot be run at all has its failure shown with the subject.
            continue
        if refused:
            lines.append(f"{subject}: its batch dimension is frozen: {'; '.join(refused)}")
    return lines


def weights_level(state: State) -> Level:
    """Level 2: each model was given the same bits and holds them, or its own are the same."""
    if state.request.weight_source != OWN:
        if state.weights is None:
            return Level(Outcome.SKIPPED, ("there were no weights",))
        refused = [
            f"{side}: {error}"
            for side, error in state.model_failures.items()
            if isinstance(error, IncompatibleWeightsError)
        ]
        # The children read every bit back; one that found another has raised WeightError.
        return Level(Outcome.FAIL, tuple(refused)) if refused else Level(Outcome.PASS)
    reference = state.request.reference_side
    if len(state.own_weights) < 2 or state.table is None:
        return Level(Outcome.SKIPPED, ("only one model has weights of its own",))
    expected = weights.load(state.own_weights[reference], state.table)
    lines = []
    for side, path in state.own_weights.items():
        if side != reference:
            held = state.table.held_by(side)
            shared = {w.name: expected[w.name] for _, w in held.weights()}
            found = weights.differences(shared, weights.load(path, held))
            lines += [f"{side} against {reference}: {line}" for line in found]
    return Level(Outcome.FAIL, tuple(lines)) if lines else Level(Outcome.PASS)


def numerics_level(stages: Sequence[StageResult]) -> Level:
    """Level 4 by the comparison points alone: a pass needs every subject at every point."""
    statuses = [result.status for stage in stages for result in stage.subjects.values()]
    if any(status.is_failure for status in statuses):
        return Level(Outcome.FAIL)
    if statuses and all(status.passes for status in statuses):
        return Level(Outcome.PASS)
    missing = statuses.count(Status.MISSING)
    reason = f"{missing} of {len(statuses)} comparisons could not be made"
    return Level(Outcome.SKIPPED, (reason if statuses else "nothing was compared",))


def complete_numerics_level(
    state: State, stages: Sequence[StageResult], trials: Sequence[Trial]
) -> Level:
    """Level 4: the points, the other inputs, and the gap between plain and instrumented graphs."""
    level = numerics_level(stages)
    messages = list(level.messages)
    messages += [
        f"on the input '{trial.name}' {trial.subject} is {trial.status} at {trial.stage}: "
        f"{max(trial.x_floor, trial.x_floor_max):.3g}x the floor"
        for trial in trials
        if not trial.status.passes
    ]
    gaps = {name: run.instrumentation_gap for name, run in state.subjects.items()}
    limit = state.request.limit * PRECISIONS[state.request.precision]
    messages += describe_instrumentation_gaps(stages, gaps, limit)
    if len(messages) > len(level.messages):
        return Level(Outcome.FAIL, tuple(messages))
    return level


def describe_instrumentation_gaps(
    stages: Sequence[StageResult], gaps: Gaps, limit: float
) -> list[str]:
    """A sentence for each graph whose plain form, the one deployed, is not what was captured.

    `limit` is in floors of float32.
    """
    last = next((stage for stage in reversed(stages) if stage.floor is not None), None)
    if last is None or last.floor is None:
        return []
    return [
        f"{name}: the plain graph's {last.name} are {gap['max_abs']:.1e} away from the "
        "instrumented graph's: the stages shown are not those of the deployed graph"
        for name, gap in gaps.items()
        if gap and not gap["rel_l2"] <= limit * last.floor.rel_l2
    ]
