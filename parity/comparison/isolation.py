"""Isolated errors: each part of a network is given the reference's input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.comparison.judging import judge_captures
from parity.comparison.runner import Runner
from parity.comparison.state import Comparison, Criteria, ReferenceRun
from parity.network.table import LayerTable
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import FirstDivergence, PointResult, find_first_failure


@dataclass(frozen=True)
class IsolatedRun:
    """The isolated captures of some rows: the reference with its floors, and the subjects."""

    reference: ReferenceRun
    captures: Mapping[str, Path]
    results: Sequence[PointResult]


@dataclass(frozen=True)
class IsolatedLayers(IsolatedRun):
    """The isolated layers of every stage that fails in isolation."""

    stages: frozenset[str]

    def failures(self) -> Iterator[tuple[str, PointResult]]:
        """Yield each subject and layer that fails in isolation."""
        for layer in self.results:
            for name, result in layer.subjects.items():
                if layer.stage in self.stages and result.status.is_failure:
                    yield name, layer


def measure_isolated_errors(
    comparison: Comparison, runner: Runner, stages: Sequence[PointResult]
) -> tuple[list[PointResult], Mapping[str, Path]]:
    """Run the subjects with the reference's input at every part between two points.

    Return `stages` with the isolated errors, and the isolated captures by subject.
    """
    points, rows = comparison.points, comparison.rows
    reference, subjects = comparison.reference, list(comparison.captures)
    if reference.isolated_floors:
        captures = runner.run_subjects(subjects, rows, "isolated", feed=reference.capture)
    else:
        # Isolation was not requested: only subjects that differ are isolated.
        subjects = [name for name in subjects if find_first_failure(stages, name) is not None]
        with runner.children.threads(1) as pool:
            reference_run = pool.submit(
                runner.run_reference,
                rows, "capture", isolate=True, accumulate=False, reuse_capture=True,
            )  # fmt: skip
            captures = runner.run_subjects(subjects, rows, "isolated", feed=reference.capture)
            reference = reference_run.result()
    isolated_stages = judge_captures(
        reference.capture, reference.isolated_floors, captures, points, comparison.criteria
    )
    merged_stages = [
        replace(stage, isolated=isolated.subjects, isolated_floor=isolated.floor)
        for stage, isolated in zip(stages, isolated_stages, strict=True)
    ]
    return merged_stages, captures


def isolate_failing_layers(
    comparison: Comparison, runner: Runner, stages: Sequence[PointResult]
) -> IsolatedLayers | None:
    """Isolate the layers of every stage that fails in isolation; None if no stage does."""
    failures = _find_failing_stages(stages)
    if not failures:
        return None
    failing_stages = frozenset(stage for _, stage in failures)
    subjects = [n for n in comparison.captures if any(n == other for other, _ in failures)]
    points = select_layer_points(comparison.table, failing_stages, with_stage_ends=True)
    run = run_layers(comparison.criteria, runner, points, subjects, isolated=True)
    return IsolatedLayers(run.reference, run.captures, run.results, failing_stages)


def locate_divergences(
    comparison: Comparison,
    runner: Runner,
    stages: Sequence[PointResult],
    layers: IsolatedLayers | None,
) -> tuple[FirstDivergence, ...]:
    """Find the first layer at which each subject differs, in execution order.

    With `layers`, the isolated layers of every stage that fails in isolation, all independent
    faults of a subject are found. Without, only each subject's first failing stage is searched,
    since later errors may be inherited.
    """
    if layers is not None:
        return _find_independent_faults(comparison.table, stages, layers)
    suspects: dict[str, PointResult] = {}
    for name in comparison.captures:
        stage = find_first_failure(stages, name)
        if stage is not None:
            suspects[name] = stage
    if not suspects:
        return ()
    points = select_layer_points(comparison.table, {stage.stage for stage in suspects.values()})
    run = run_layers(comparison.criteria, runner, points, list(suspects), isolated=False)
    divergences = []
    for name, stage in suspects.items():
        layer = find_first_failure([r for r in run.results if r.stage == stage.stage], name)
        divergences.append(_build_divergence(name, layer or stage, layer is not None))
    return _sort_by_position(divergences, comparison.table)


def _find_failing_stages(stages: Sequence[PointResult]) -> set[tuple[str, str]]:
    """Return each subject and stage at which the subject fails in isolation."""
    return {
        (name, stage.stage)
        for stage in stages
        for name, result in stage.isolated.items()
        if result.status.is_failure
    }


def _find_independent_faults(
    table: LayerTable, stages: Sequence[PointResult], layers: IsolatedLayers
) -> tuple[FirstDivergence, ...]:
    """Return the divergence of every layer that fails in isolation."""
    faults = [_build_divergence(name, layer, True) for name, layer in layers.failures()]
    stages_with_faults = {(fault.subject, fault.stage) for fault in faults}
    for name, stage in _find_failing_stages(stages) - stages_with_faults:
        # Each layer is within its own floor, but the stage is not: name the stage alone.
        result = next(point for point in stages if point.stage == stage)
        faults.append(_build_divergence(name, result, False))
    return _sort_by_position(faults, table)


def select_layer_points(
    table: LayerTable, stages: Iterable[str], *, with_stage_ends: bool = False
) -> list[ComparisonPoint]:
    """Return the layers of `stages`.

    Use `with_stage_ends` to add the ends of the other stages, which isolation feeds.
    """
    names = set(stages)
    ends = {point.row for point in table.points("stage")} if with_stage_ends else set()
    return [p for p in table.points("layer") if p.stage in names or p.row in ends]


def run_layers(
    criteria: Criteria,
    runner: Runner,
    points: Sequence[ComparisonPoint],
    subjects: Sequence[str],
    *,
    isolated: bool,
) -> IsolatedRun:
    """Capture and judge the reference and the subjects at layers, isolated or accumulated."""
    runner.progress("parity", "comparing the layers")
    rows = [point.row for point in points]
    label = "layers-isolated" if isolated else "layers"
    reference = runner.run_reference(rows, label, isolate=isolated, accumulate=not isolated)
    feed = reference.capture if isolated else None
    captures = runner.run_subjects(subjects, rows, label, feed=feed)
    floors = reference.isolated_floors if isolated else reference.floors
    return IsolatedRun(
        reference, captures, judge_captures(reference.capture, floors, captures, points, criteria)
    )


def _build_divergence(subject: str, stage: PointResult, is_layer: bool) -> FirstDivergence:
    layer = stage.row if is_layer or stage.name == stage.row else None
    return FirstDivergence(subject, stage.stage, layer, stage.name, (subject,))


def _sort_by_position(
    faults: Sequence[FirstDivergence], table: LayerTable
) -> tuple[FirstDivergence, ...]:
    """Sort in execution order; subjects that differ at one position list each other."""
    order = {row.name: index for index, row in enumerate(table.rows)}
    ends = {point.stage: point.row for point in table.points("stage")}
    subjects: dict[tuple[str, str | None], list[str]] = {}
    for fault in faults:
        subjects.setdefault((fault.stage, fault.layer), []).append(fault.subject)
    return tuple(
        sorted(
            (
                replace(fault, subjects=tuple(subjects[fault.stage, fault.layer]))
                for fault in faults
            ),
            key=lambda fault: order[fault.layer or ends[fault.stage]],
        )
    )
