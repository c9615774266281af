"""Each part of a network by itself: given the reference's input, it shows only its own error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.comparison.judging import judge_captures
from parity.comparison.runner import Runner
from parity.comparison.state import Comparison, Criteria, ReferenceRun
from parity.network.table import LayerTable
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import FirstDivergence, StageResult, find_first_failure


@dataclass(frozen=True)
class IsolatedRun:
    """Some rows captured in isolation: the reference with its floors, and the subjects."""

    reference: ReferenceRun
    captures: Mapping[str, Path]
    results: Sequence[StageResult]


@dataclass(frozen=True)
class IsolatedLayers(IsolatedRun):
    """Every layer of the stages that fail by themselves, each given the reference's input."""

    stages: frozenset[str]

    def failing(self) -> Iterator[tuple[str, StageResult]]:
        """Each subject and layer that fails though it is given the right input."""
        for layer in self.results:
            for name, result in layer.subjects.items():
                if layer.stage in self.stages and result.status.is_failure:
                    yield name, layer


def measure_isolated_errors(
    comparison: Comparison, runner: Runner, stages: Sequence[StageResult]
) -> tuple[list[StageResult], Mapping[str, Path]]:
    """Give every part between two points the reference's input.

    Returns `stages` with the isolated errors, and the isolated captures by subject.
    """
    points, rows = comparison.points, comparison.rows
    reference, subjects = comparison.reference, list(comparison.captures)
    if reference.isolated_floors:
        captures = runner.run_subjects(subjects, rows, "isolated", feed=reference.capture)
    else:
        # Nobody asked for isolation until something was found to differ: only that is looked at.
        subjects = [name for name in subjects if find_first_failure(stages, name) is not None]
        with runner.children.threads(1) as pool:
            measuring = pool.submit(
                runner.run_reference,
                rows, "capture", isolate=True, accumulate=False, given=True,
            )  # fmt: skip
            captures = runner.run_subjects(subjects, rows, "isolated", feed=reference.capture)
            reference = measuring.result()
    found = judge_captures(
        reference.capture, reference.isolated_floors, captures, points, comparison.criteria
    )
    isolated = [
        replace(stage, isolated=alone.subjects, isolated_floor=alone.floor)
        for stage, alone in zip(stages, found, strict=True)
    ]
    return isolated, captures


def isolate_failing_layers(
    comparison: Comparison, runner: Runner, stages: Sequence[StageResult]
) -> IsolatedLayers | None:
    """Isolate the layers of every stage that fails by itself; None if there is no such stage."""
    failing = _failing_stages(stages)
    if not failing:
        return None
    inside = frozenset(stage for _, stage in failing)
    subjects = [n for n in comparison.captures if any(n == other for other, _ in failing)]
    points = select_layer_points(comparison.table, inside, others=True)
    run = run_layers(comparison.criteria, runner, points, subjects, isolated=True)
    return IsolatedLayers(run.reference, run.captures, run.results, inside)


def locate_divergences(
    comparison: Comparison,
    runner: Runner,
    stages: Sequence[StageResult],
    layers: IsolatedLayers | None,
) -> tuple[FirstDivergence, ...]:
    """Find the first layer at which each subject differs, in execution order.

    With `layers`, every stage that fails by itself was looked into, so that several independent
    faults of one subject are all named; else only each subject's first failing stage is, since what
    comes after it may be inherited.
    """
    if layers is not None:
        return _independent_faults(comparison.table, stages, layers)
    suspects: dict[str, StageResult] = {}
    for name in comparison.captures:
        stage = find_first_failure(stages, name)
        if stage is not None:
            suspects[name] = stage
    if not suspects:
        return ()
    points = select_layer_points(comparison.table, {stage.stage for stage in suspects.values()})
    run = run_layers(comparison.criteria, runner, points, list(suspects), isolated=False)
    found = []
    for name, stage in suspects.items():
        layer = find_first_failure([r for r in run.results if r.stage == stage.stage], name)
        found.append(_build_divergence(name, layer or stage, layer is not None))
    return _sort_by_position(found, comparison.table)


def _failing_stages(stages: Sequence[StageResult]) -> set[tuple[str, str]]:
    """Subject and stage, where the subject fails in isolation."""
    return {
        (name, stage.stage)
        for stage in stages
        for name, alone in stage.isolated.items()
        if alone.status.is_failure
    }


def _independent_faults(
    table: LayerTable, stages: Sequence[StageResult], layers: IsolatedLayers
) -> tuple[FirstDivergence, ...]:
    """Every layer that fails though it is given the right input."""
    found = [_build_divergence(name, layer, True) for name, layer in layers.failing()]
    located = {(fault.subject, fault.stage) for fault in found}
    for name, stage in _failing_stages(stages) - located:
        # Each layer is within its own floor, but the stage is not: name the stage alone.
        result = next(point for point in stages if point.stage == stage)
        found.append(_build_divergence(name, result, False))
    return _sort_by_position(found, table)


def select_layer_points(
    table: LayerTable, stages: Iterable[str], *, others: bool = False
) -> list[ComparisonPoint]:
    """Every layer of `stages`; with `others`, also the ends of the other stages, to feed them."""
    inside = set(stages)
    ends = {point.row for point in table.points("stage")} if others else set()
    return [p for p in table.points("layer") if p.stage in inside or p.row in ends]


def run_layers(
    criteria: Criteria,
    runner: Runner,
    points: Sequence[ComparisonPoint],
    subjects: Sequence[str],
    *,
    isolated: bool,
) -> IsolatedRun:
    """Capture and judge the reference and subjects at layers, in isolation or in one run."""
    runner.progress("parity", "looking into the layers")
    rows = [point.row for point in points]
    label = "layers-isolated" if isolated else "layers"
    reference = runner.run_reference(rows, label, isolate=isolated, accumulate=not isolated)
    feed = reference.capture if isolated else None
    captures = runner.run_subjects(subjects, rows, label, feed=feed)
    floors = reference.isolated_floors if isolated else reference.floors
    return IsolatedRun(
        reference, captures, judge_captures(reference.capture, floors, captures, points, criteria)
    )


def _build_divergence(subject: str, stage: StageResult, is_layer: bool) -> FirstDivergence:
    layer = stage.row if is_layer or stage.name == stage.row else None
    return FirstDivergence(subject, stage.stage, layer, stage.name, (subject,))


def _sort_by_position(
    found: Sequence[FirstDivergence], table: LayerTable
) -> tuple[FirstDivergence, ...]:
    """Sort by place in the network; subjects that differ at one place name each other."""
    order = {row.name: index for index, row in enumerate(table.rows)}
    ends = {point.stage: point.row for point in table.points("stage")}
    shared: dict[tuple[str, str | None], list[str]] = {}
    for fault in found:
        shared.setdefault((fault.stage, fault.layer), []).append(fault.subject)
    return tuple(
        sorted(
            (replace(fault, subjects=tuple(shared[fault.stage, fault.layer])) for fault in found),
            key=lambda fault: order[fault.layer or ends[fault.stage]],
        )
    )
