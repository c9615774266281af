"""Isolated errors in a comparison of graphs, and the first layer that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.comparison.graphs.precisions import find_row_precisions
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.comparison.judging import judge_captures
from parity.comparison.state import Criteria, ReferenceRun
from parity.numerics.verdict import FirstDivergence, StageResult, find_first_failure


@dataclass(frozen=True)
class IsolatedRows:
    """The layers of the stages that fail, each given the reference's input."""

    results: tuple[StageResult, ...]
    captures: Mapping[str, Path]
    reference: ReferenceRun
    stages: frozenset[str]
    followers: frozenset[tuple[str, str]] = frozenset()
    """Subjects and rows that read from a row whose shape differs, so that they differ too."""

    def failures(self) -> list[tuple[str, StageResult]]:
        """Return each subject and layer that fails in isolation, in execution order."""
        return [
            (name, layer)
            for layer in self.results
            for name, result in layer.subjects.items()
            if layer.stage in self.stages and result.status.is_failure
            if (name, layer.row) not in self.followers
        ]


def criteria(state: GraphState) -> Criteria:
    """Return the limit, and the precisions that every subject and its rows are judged by."""
    request = state.request
    precisions = dict.fromkeys(state.models, request.judge_as or request.precision)
    if request.judge_as is not None:
        return Criteria(request.limit, precisions)
    rows = {
        name: find_row_precisions(state.table, state.reference, model, requested=request.precision)
        for name, model in state.models.items()
    }
    return Criteria(request.limit, precisions, rows)


def isolate_stages(
    state: GraphState,
    runner: GraphRunner,
    stages: Sequence[StageResult],
    reference: ReferenceRun,
) -> list[StageResult]:
    """Return the stages with the error of each part that is given the reference's input."""
    names = list(state.models)
    points = state.table.points(state.request.depth, names)
    captures = runner.run_subjects(names, points, "isolated", feed=reference.capture)
    results = judge_captures(
        reference.capture,
        reference.isolated_floors,
        {name: each.path for name, each in captures.items()},
        points,
        criteria(state),
    )
    return [
        replace(stage, isolated=isolated.subjects, isolated_floor=isolated.floor)
        for stage, isolated in zip(stages, results, strict=True)
    ]


def isolate_failing_layers(
    state: GraphState, runner: GraphRunner, stages: Sequence[StageResult]
) -> IsolatedRows | None:
    """Run the layers of every stage that fails, each on the reference's input.

    A stage that fails only since the one before it does is run too: which it is, is known only in
    isolation.
    """
    failing = {
        stage.stage
        for stage in stages
        if any(result.status.is_failure for result in (stage.isolated or stage.subjects).values())
    }
    names = [n for n in state.models if find_first_failure(stages, n) is not None]
    if not failing or not names:
        return None
    points = state.table.in_stages(failing, names)
    reference = runner.run_reference(points, "layers", isolate=True)
    captures = runner.run_subjects(names, points, "layers", feed=reference.capture)
    paths = {name: each.path for name, each in captures.items()}
    results = judge_captures(
        reference.capture, reference.isolated_floors, paths, points, criteria(state)
    )
    followers = frozenset(
        (name, row) for name in names for row in _find_followers(state, results, name)
    )
    return IsolatedRows(tuple(results), paths, reference, frozenset(failing), followers)


def _find_followers(state: GraphState, results: Sequence[StageResult], name: str) -> set[str]:
    """Return the rows that fail and read from a row whose shape differs.

    A tensor of another shape cannot be replaced by the reference's, so what follows differs too.
    """
    graph = state.reference.graph
    failing = {r.row for r in results if name in r.subjects and r.subjects[name].status.is_failure}
    other = {r.row for r in results if name in r.subjects and r.subjects[name].shape_differs}
    by_tensor = {row.tensors[state.reference.subject.name].tensor: row.name
                 for row in state.table.rows}  # fmt: skip
    found = set()
    for row in state.table.rows:
        waiting, seen = list(graph.by_id[row.node].inputs), set[str]()
        while waiting and row.name in failing:
            tensor = waiting.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            before = by_tensor.get(tensor)
            if before is None:
                producer = graph.producers.get(tensor)
                waiting += () if producer is None else producer.inputs
            elif before in other:
                found.add(row.name)
    return found


def locate_divergences(
    state: GraphState, stages: Sequence[StageResult], layers: IsolatedRows | None
) -> tuple[FirstDivergence, ...]:
    """Return the divergence of every layer that fails in isolation, in execution order.

    A subject that differs although none of its layers does in isolation is located at its first
    stage.
    """
    found: list[FirstDivergence] = []
    failures = [] if layers is None else layers.failures()
    for subject, layer in failures:
        others = tuple(name for name, other in failures if other.row == layer.row)
        found.append(FirstDivergence(subject, layer.stage, layer.row, layer.name, others))
    located = {each.subject for each in found}
    for name in state.models:
        stage = find_first_failure(stages, name)
        if stage is not None and name not in located:
            row = stage.row if state.request.depth == "layer" else None
            found.append(FirstDivergence(name, stage.stage, row, stage.name, (name,)))
    order = {row.name: at for at, row in enumerate(state.table.rows)}
    ends = {point.name: point.row for point in state.table.points("stage", list(state.models))}
    return tuple(
        sorted(found, key=lambda each: order.get(each.layer or ends.get(each.point, ""), 0))
    )
