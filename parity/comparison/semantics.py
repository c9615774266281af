"""Judgement of level 3: every subject in float64, where rounding is far below a difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from parity.comparison.isolation import select_layer_points
from parity.comparison.judging import judge_captures
from parity.comparison.request import side_of
from parity.comparison.results import Level, Outcome
from parity.comparison.runner import Runner
from parity.comparison.state import Comparison, Criteria, ReferenceRun, SubjectCapture
from parity.errors import ParityError
from parity.network.table import LayerTable
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import PointResult, find_first_failure
from parity.processes import registry
from parity.processes.subjects import runs_graph

SLACK = 2.0
"""Factor on the limit: in a float64 comparison, subject and reference both have rounding errors."""

FOLDED_CONSTANTS = 2.0**29
"""One float32 floor in floors of float64: the most that constants rounded to float32 can add."""


def float64_criteria(criteria: Criteria, subject: str) -> Criteria:
    """Return the criteria for a subject's float64 run: the floor of float64, with `SLACK`."""
    return Criteria(criteria.limit * SLACK, {subject: "float64"})


def judge_float64(
    reference: ReferenceRun,
    subject: str,
    capture: Path,
    points: Sequence[ComparisonPoint],
    criteria: Criteria,
) -> list[PointResult]:
    """Judge one subject's float64 capture; `criteria` are the comparison's."""
    return judge_captures(
        reference.capture,
        reference.floors,
        {subject: capture},
        points,
        float64_criteria(criteria, subject),
    )


def try_float64(
    runner: Runner, subject: str, rows: Sequence[str], table: LayerTable
) -> SubjectCapture | ParityError:
    """Run one subject in float64 at `rows`; return the error if that fails."""
    try:
        return runner.run_float64(subject, rows, "float64", table)
    except ParityError as error:
        return error


def run_and_judge_float64(
    comparison: Comparison, runner: Runner, subject: str, label: str
) -> list[PointResult]:
    """Run one subject in float64, and judge it at the comparison's points."""
    capture = runner.run_float64(subject, comparison.rows, label, comparison.table)
    return judge_float64(
        comparison.reference, subject, capture.path, comparison.points, comparison.criteria
    )


def is_explained_by_constant_rounding(stages: Sequence[PointResult], subject: str) -> bool:
    """Whether constants that were rounded to float32 once can explain all float64 errors."""
    return all(stage.subjects[subject].x_floor <= FOLDED_CONSTANTS for stage in stages)


def judge_semantics(
    comparison: Comparison,
    runner: Runner,
    runs: Mapping[str, SubjectCapture | ParityError],
    failures: Mapping[str, ParityError],
) -> Level:
    """Judge the float64 `runs`, by subject; `failures` holds the errors of subjects without a run.

    An exporter that folds constants rounds them to float32: a graph that differs by at most the
    float32 floor passes, with a note.
    """
    notes: list[str] = []
    faulty: set[str] = set()
    has_passed = False
    # The models before their graphs: a graph has the faults of its model.
    for name in sorted(comparison.captures, key=runs_graph):
        if name == runner.request.reference_side:
            continue
        run = runs.get(name)
        if not isinstance(run, SubjectCapture):
            notes.append(f"{name}: not run in float64: {run or failures.get(name)}")
            continue
        stages = judge_float64(
            comparison.reference, name, run.path, comparison.points, comparison.criteria
        )
        first = find_first_failure(stages, name)
        worst = max(stage.subjects[name].rel_l2 for stage in stages)
        evaluator = registry.label(registry.graph_evaluator())
        method = f", its graph read into {evaluator}" if runs_graph(name) else ""
        if first is None:
            has_passed = True
            notes.append(f"{name}: the same in float64 to {worst:.1e}{method}")
            continue
        is_inherited = side_of(name) in faulty
        if method and not is_inherited and is_explained_by_constant_rounding(stages, name):
            has_passed = True
            notes.append(
                f"{name}: the same in float64 to {worst:.1e}{method}; the graph holds constants "
                "that were rounded to float32"
            )
            continue
        faulty.add(name)
        notes.append(describe_float64_failure(comparison, runner, name, first))
    if not notes:
        return Level(Outcome.SKIPPED, ("only one model was compared",))
    if faulty:
        return Level(Outcome.FAIL, tuple(notes))
    return Level(Outcome.PASS if has_passed else Outcome.SKIPPED, tuple(notes))


def describe_float64_failure(
    comparison: Comparison, runner: Runner, subject: str, stage: PointResult
) -> str:
    """Return a sentence that names the first layer of a stage that differs in float64."""
    points = select_layer_points(comparison.table, [stage.stage])
    rows = [point.row for point in points]
    reference = runner.run_reference(rows, "layers-float64")
    capture = runner.run_float64(subject, rows, "layers-float64-subject", comparison.table)
    layers = judge_float64(reference, subject, capture.path, points, comparison.criteria)
    layer = find_first_failure(layers, subject) or stage
    result = layer.subjects[subject]
    return (
        f"{subject}: differs in float64 first at {layer.row}: rel_l2 {result.rel_l2:.1e}, "
        f"max abs {result.max_abs:.1e}; rounding explains a rel_l2 of "
        f"{result.rel_l2 / result.x_floor if result.x_floor else 0:.0e}"
    )
