"""A subject run anew with one thing changed: what proves causes that lie in how it was run."""

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
from parity.numerics.verdict import StageResult, Status, find_failing_subjects
from parity.processes.subjects import runs_graph


@dataclass(frozen=True)
class Run:
    """What is known of a subject's run that differs from the reference, or that failed."""

    subject: str
    precision: str
    judge_as: str
    batch: int
    reshaped: bool = False
    """Whether a tensor has another shape than the reference's."""
    failure: ParityError | None = None
    declared: int | None = None
    """The batch that a graph's input says it takes; None for any."""

    @property
    def runs_graph(self) -> bool:
        return runs_graph(self.subject)


@dataclass(frozen=True)
class Rerun:
    """One thing to change: `changed` are fields of `RunRequest`.

    `text` says what the subject has, beginning with a capital and without a full stop; `undone`
    what the other run is, as in "with all optimisations off".
    """

    cause: str
    changed: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    undone: str = ""
    remedy: str = ""


def explain_by_rerun(
    state: State,
    comparison: Comparison,
    runner: Runner,
    stages: Sequence[StageResult],
    reruns: Callable[[Run], Iterable[Rerun]],
) -> tuple[Cause, ...]:
    """A cause for each subject that is at the floor everywhere once one thing is changed.

    Nothing else is: same weights, same input. A graph whose own model differs too is left to the
    layers, since no setting of a session repairs its model.
    """
    failing = find_failing_subjects(stages)
    found: list[Cause] = []
    for name in state.request.subjects:
        failure = state.failures.get(name)
        if name not in failing and failure is None:
            continue
        if runs_graph(name) and side_of(name) in failing:
            continue
        for rerun in reruns(_run(state, runner, name, stages, failure)):
            cause = _prove(comparison, runner, name, rerun, stages)
            if cause is not None:
                found.append(cause)
                break
    return tuple(found)


def _run(
    state: State,
    runner: Runner,
    name: str,
    stages: Sequence[StageResult],
    failure: ParityError | None,
) -> Run:
    request = state.request
    results = [stage.subjects[name] for stage in stages if name in stage.subjects]
    return Run(
        subject=name,
        precision=request.precision,
        judge_as=request.judge_as or request.precision,
        # Of a folder one pass is looked into, which is not all of the input.
        batch=stages[0].shape[0] if stages else len(state.input.array),
        reshaped=any(r.status is Status.DIVERGED and math.isinf(r.x_floor) for r in results),
        failure=failure,
        declared=_declared_batch(runner, name) if failure is not None else None,
    )


def _declared_batch(runner: Runner, name: str) -> int | None:
    if not runs_graph(name):
        return None
    try:
        return runner.read_declared_batch(name)
    except ParityError:
        # A graph that was never read, or a child that is gone, declares nothing.
        return None


def _prove(
    comparison: Comparison,
    runner: Runner,
    name: str,
    rerun: Rerun,
    stages: Sequence[StageResult],
) -> Cause | None:
    reference = comparison.reference
    try:
        again = runner.run_subject(name, comparison.rows, "rerun", **rerun.changed)
    except ParityError:
        # What cannot be run in another way either leaves the question to the layers.
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
    before = "it could not be run"
    if first is not None:
        worst = _worst(name, stages)
        evidence = {"x_floor_before": worst, **evidence}
        before = f"{worst:.3g}x the floor"
    evidence = {key: value for key, value in evidence.items() if math.isfinite(value)}
    return Cause(
        layer=(first or results[0]).row,
        subject=name,
        cause=rerun.cause,
        evidence=evidence,
        message=(
            f"{rerun.cause}: {rerun.text}: {before}; {rerun.undone} it is "
            f"{_worst(name, results):.2g}x. Remedy: {rerun.remedy}"
        ),
    )


def _worst(name: str, stages: Sequence[StageResult]) -> float:
    results = [stage.subjects[name] for stage in stages if name in stage.subjects]
    return max(max(result.x_floor, result.x_floor_max) for result in results)
