"""Level 3: every subject in float64, where a real difference stands far above rounding."""

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
from parity.numerics.verdict import StageResult, find_first_failure
from parity.processes import registry
from parity.processes.subjects import runs_graph

SLACK = 2.0
"""Both sides of a float64 comparison round, the reference too, so twice the limit is allowed."""

FOLDED_CONSTANTS = 2.0**29
"""One float32 floor in floors of float64: the most that constants rounded to float32 can add."""


def float64_criteria(criteria: Criteria, subject: str) -> Criteria:
    """How a subject's float64 run is judged: by float64's floor, with `SLACK`."""
    return Criteria(criteria.limit * SLACK, {subject: "float64"})


def judge_float64(
    reference: ReferenceRun,
    subject: str,
    capture: Path,
    points: Sequence[ComparisonPoint],
    criteria: Criteria,
) -> list[StageResult]:
    """Judge one subject's float64 capture; `criteria` are those of the comparison."""
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
    """Run one subject in float64 at `rows`; the error where that fails."""
    try:
        return runner.run_float64(subject, rows, "float64", table)
    except ParityError as error:
        return error


def run_and_judge_float64(
    comparison: Comparison, runner: Runner, subject: str, label: str
) -> list[StageResult]:
    """Run one subject in float64 and judge it at the comparison's points."""
    capture = runner.run_float64(subject, comparison.rows, label, comparison.table)
    return judge_float64(
        comparison.reference, subject, capture.path, comparison.points, comparison.criteria
    )


def is_explained_by_constant_rounding(stages: Sequence[StageResult], subject: str) -> bool:
    """Whether constants that were rounded to float32 once can explain all float64 errors."""
    return all(stage.subjects[subject].x_floor <= FOLDED_CONSTANTS for stage in stages)


def judge_semantics(
    comparison: Comparison,
    runner: Runner,
    runs: Mapping[str, SubjectCapture | ParityError],
    failures: Mapping[str, ParityError],
) -> Level:
    """Judge the float64 `runs`, by subject; `failures` say why a subject has none.

    A graph whose exporter folded constants holds their float32 roundings: one that is off by no
    more than the float32 floor passes, and the note says so.
    """
    notes: list[str] = []
    faulty: set[str] = set()
    # The models before their graphs: what a model has wrong, its graph has too.
    for name in sorted(comparison.captures, key=runs_graph):
        if name == runner.request.reference_side:
            continue
        done = runs.get(name)
        if not isinstance(done, SubjectCapture):
            notes.append(f"{name}: not run in float64: {done or failures.get(name)}")
            continue
        stages = judge_float64(
            comparison.reference, name, done.path, comparison.points, comparison.criteria
        )
        first = find_first_failure(stages, name)
        worst = max(stage.subjects[name].rel_l2 for stage in stages)
        evaluator = registry.label(registry.graph_evaluator())
        how = f", its graph read into {evaluator}" if runs_graph(name) else ""
        if first is None:
            notes.append(f"{name}: the same in float64 to {worst:.1e}{how}")
            continue
        inherited = side_of(name) in faulty
        if how and not inherited and is_explained_by_constant_rounding(stages, name):
            notes.append(
                f"{name}: the same in float64 to {worst:.1e}{how}; it holds constants that were "
                "rounded to float32"
            )
            continue
        faulty.add(name)
        notes.append(describe_float64_failure(comparison, runner, name, first))
    if not notes:
        return Level(Outcome.SKIPPED, ("there is one model only",))
    if faulty:
        return Level(Outcome.FAIL, tuple(notes))
    compared = any("the same in float64" in note for note in notes)
    return Level(Outcome.PASS if compared else Outcome.SKIPPED, tuple(notes))


def describe_float64_failure(
    comparison: Comparison, runner: Runner, subject: str, stage: StageResult
) -> str:
    """Name the first layer of a stage at which a subject differs in float64."""
    points = select_layer_points(comparison.table, [stage.stage])
    rows = [point.row for point in points]
    reference = runner.run_reference(rows, "layers-float64")
    capture = runner.run_float64(subject, rows, "layers-float64-subject", comparison.table)
    layers = judge_float64(reference, subject, capture.path, points, comparison.criteria)
    layer = find_first_failure(layers, subject) or stage
    result = layer.subjects[subject]
    return (
        f"{subject}: differs in float64 first at {layer.row}: rel_l2 {result.rel_l2:.1e}, "
        f"max abs {result.max_abs:.1e}, where rounding explains "
        f"{result.rel_l2 / result.x_floor if result.x_floor else 0:.0e}"
    )
