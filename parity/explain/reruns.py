"""Second runs of a subject with one option changed, which prove causes in how it was run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.comparison.judging import judge_captures
from parity.comparison.request import side_of
from parity.comparison.runner import Runner
from parity.comparison.state import Comparison, State
from parity.errors import ParityError
from parity.explain.cause import Cause
from parity.numerics.verdict import PointResult, Status, find_failing_subjects
from parity.processes.subjects import runs_graph
from parity.text import format_ratio


@dataclass(frozen=True)
class FailingRun:
    """A subject's run that differs from the reference, or that raised an error."""

    subject: str
    precision: str
    judge_as: str
    batch: int
    """The number of items that it was given."""
    shape_differs: bool = False
    """Whether an output has another shape than the reference's."""
    error: ParityError | None = None
    declared_batch: int | None = None
    """The batch that a graph's input declares; None for any."""

    @property
    def runs_graph(self) -> bool:
        return runs_graph(self.subject)


@dataclass(frozen=True)
class Rerun:
    """A run with other `options`, which are fields of `RunRequest`, and the cause that it proves.

    `text` describes the first run in one sentence, with a capital and without a full stop;
    `condition` the second one, as in "with all optimisations off".
    """

    cause: str
    options: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    condition: str = ""
    remedy: str = ""


def explain_by_reruns(
    state: State,
    comparison: Comparison,
    runner: Runner,
    stages: Sequence[PointResult],
    propose: Callable[[FailingRun], Iterable[Rerun]],
) -> tuple[Cause, ...]:
    """Return a cause for each subject that is at the floor everywhere with one option changed.

    Weights and input are the same. A graph whose own model differs too is skipped, since no option
    of a session repairs the model: its layers are explained.
    """
    failing = find_failing_subjects(stages)
    causes: list[Cause] = []
    for name in state.request.subjects:
        error = state.failures.get(name)
        if name not in failing and error is None:
            continue
        if runs_graph(name) and side_of(name) in failing:
            continue
        for rerun in propose(_describe_run(state, runner, name, stages, error)):
            cause = _prove(comparison, runner, name, rerun, stages)
            if cause is not None:
                causes.append(cause)
                break
    return tuple(causes)


def _describe_run(
    state: State,
    runner: Runner,
    name: str,
    stages: Sequence[PointResult],
    error: ParityError | None,
) -> FailingRun:
    request = state.request
    results = [stage.subjects[name] for stage in stages if name in stage.subjects]
    return FailingRun(
        subject=name,
        precision=request.precision,
        judge_as=request.judge_as or request.precision,
        # One pass of a folder is explained, which is not all of the input.
        batch=stages[0].shape[0] if stages else len(state.input.array),
        shape_differs=any(r.status is Status.DIVERGED and math.isinf(r.x_floor) for r in results),
        error=error,
        declared_batch=_declared_batch(runner, name) if error is not None else None,
    )


def _declared_batch(runner: Runner, name: str) -> int | None:
    if not runs_graph(name):
        return None
    try:
        return runner.read_declared_batch(name)
    except ParityError:
        # A graph that was not read, or a child that has ended, declares no batch.
        return None


def _prove(
    comparison: Comparison,
    runner: Runner,
    name: str,
    rerun: Rerun,
    stages: Sequence[PointResult],
) -> Cause | None:
    reference = comparison.reference
    try:
        again = runner.run_subject(name, comparison.rows, "rerun", **rerun.options)
    except ParityError:
        # A second run that fails proves nothing; the layers are explained instead.
        return None
    results = judge_captures(
        reference.capture,
        reference.floors,
        {name: again.path},
        comparison.points,
        comparison.criteria,
    )
    if not all(stage.subjects[name].status.passes for stage in results):
        return None
    first = next(
        (s for s in stages if name in s.subjects and not s.subjects[name].status.passes), None
    )
    evidence = {"x_floor_after": _worst(name, results)}
    before = "it failed"
    if first is not None:
        worst = _worst(name, stages)
        evidence = {"x_floor_before": worst, **evidence}
        before = f"{format_ratio(worst)} the floor"
    evidence = {key: value for key, value in evidence.items() if math.isfinite(value)}
    return Cause(
        layer=(first or results[0]).row,
        subject=name,
        cause=rerun.cause,
        evidence=evidence,
        message=(
            f"{rerun.cause}: {rerun.text}: {before}; {rerun.condition} it is "
            f"{format_ratio(_worst(name, results))}. Remedy: {rerun.remedy}"
        ),
        remedy=rerun.remedy,
    )


def _worst(name: str, stages: Sequence[PointResult]) -> float:
    """Return the largest error of a subject in floors."""
    results = [stage.subjects[name] for stage in stages if name in stage.subjects]
    return max(max(result.x_floor, result.x_floor_max) for result in results)
