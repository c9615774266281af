"""Isolated errors in a comparison of graphs, and the first layer that differs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from parity.comparison.graphs.missing import find_missing_operation
from parity.comparison.graphs.points import extra_points, isolated_terms
from parity.comparison.graphs.precisions import find_row_precisions
from parity.comparison.graphs.rewritings import find_rewritings
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.comparison.judging import judge_captures
from parity.comparison.state import Criteria, ReferenceRun
from parity.errors import SUBJECT_ERRORS, ParityError
from parity.numerics.capture import CaptureReader
from parity.numerics.distance import measure_error
from parity.numerics.floor import ROUNDOFF, Floor
from parity.numerics.measurement import RowErrors, measure_rows
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import (
    FirstDivergence,
    PointResult,
    Status,
    find_first_failure,
    judge_rows,
)
from parity.processes.helpers import start_measurement_helpers


@dataclass(frozen=True)
class IsolatedRows:
    """The layers of the stages that fail, each given the reference's input."""

    results: tuple[PointResult, ...]
    captures: Mapping[str, Path]
    reference: Path
    """The capture of the reference in float64."""
    stages: frozenset[str]
    points: Mapping[str, Sequence[ComparisonPoint]]
    """The points of each subject's run, which are given the reference's tensors."""
    followers: frozenset[tuple[str, str]] = frozenset()
    """Subjects and rows that read from a row whose shape differs, so that they differ too."""
    shared: frozenset[tuple[str, str]] = frozenset()
    """Exports and rows that fail in isolation as their models do, and give the same."""

    def failures(self) -> list[tuple[str, PointResult]]:
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
    stages: Sequence[PointResult],
    reference: ReferenceRun,
) -> list[PointResult]:
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
    state: GraphState,
    runner: GraphRunner,
    stages: Sequence[PointResult],
    begin: Callable[[Path], None] = lambda capture: None,
) -> IsolatedRows | None:
    """Run the layers of every stage that fails, each on the reference's input.

    `begin` is called with the capture of the reference once it is there: the children work then.

    A stage that fails only since the one before it does is run too: which it is, is known only in
    isolation. Subjects that have different rows there are judged apart, each at all of its own.
    """
    failing = {
        stage.stage
        for stage in stages
        if any(result.status.is_failure for result in (stage.isolated or stage.subjects).values())
    }
    names = [n for n in state.models if find_first_failure(stages, n) is not None]
    if not failing or not names:
        return None
    own_points = {name: state.table.in_stages(failing, (name,)) for name in names}
    order = {row.name: at for at, row in enumerate(state.table.rows)}
    every = {point.row: point for points in own_points.values() for point in points}
    capture = _capture_layers(state, runner, sorted(every.values(), key=lambda p: order[p.row]))
    begin(capture)
    paths: dict[str, Path] = {}
    for group in _group_equal(own_points):
        captures = runner.run_subjects(group, own_points[group[0]], "layers", feed=capture)
        paths |= {name: each.path for name, each in captures.items()}
    results = _judge_all(state, runner, own_points, capture, paths)
    fewer = _leave_out_rewritings(state, runner, own_points, results, capture, stages)
    if fewer:
        for group in _group_equal(fewer):
            captures = runner.run_subjects(group, fewer[group[0]], "layers", feed=capture)
            paths |= {name: each.path for name, each in captures.items()}
        own_points |= fewer
        again = _judge_all(state, runner, fewer, capture, paths)
        results = [*_select_subjects(results, set(names) - fewer.keys()), *again]
    results.sort(key=lambda result: order[result.row])
    followers = frozenset(
        (name, row) for name in names for row in _find_followers(state, results, name)
    )
    sources = {name: model.subject.exported_from for name, model in state.models.items()}
    limit = state.request.limit
    shared = find_shared_failures(sources, results, limit=limit)
    shared |= find_shared_shapes(sources, results, paths, limit=limit)
    return IsolatedRows(
        tuple(results), paths, capture, frozenset(failing), own_points, followers, shared
    )


def _judge_all(
    state: GraphState,
    runner: GraphRunner,
    own_points: Mapping[str, Sequence[ComparisonPoint]],
    capture: Path,
    paths: Mapping[str, Path],
) -> list[PointResult]:
    """Judge the isolated runs of subjects, those with the same points together."""
    results: list[PointResult] = []
    for group in _group_equal(own_points):
        own = {name: paths[name] for name in group}
        results += _judge_isolated(state, runner, own_points[group[0]], capture, own)
    return results


def _leave_out_rewritings(
    state: GraphState,
    runner: GraphRunner,
    own_points: Mapping[str, Sequence[ComparisonPoint]],
    results: Sequence[PointResult],
    capture: Path,
    stages: Sequence[PointResult],
) -> dict[str, list[ComparisonPoint]]:
    """Return the points of the subjects that have rows which are written differently, less those.

    A subject that cannot be run again keeps its rows.
    """
    fewer = {}
    with runner.children.threads(len(own_points)) as pool:
        futures = {
            name: pool.submit(
                find_rewritings, state, runner, name, points, results, capture, stages
            )
            for name, points in own_points.items()
        }
        for name, future in futures.items():
            with contextlib.suppress(*SUBJECT_ERRORS):
                rows = future.result()
                if rows:
                    fewer[name] = [each for each in own_points[name] if each.row not in rows]
    return fewer


def _select_subjects(results: Sequence[PointResult], names: Collection[str]) -> list[PointResult]:
    """Return results of some subjects alone."""
    found = []
    for result in results:
        own = {name: each for name, each in result.subjects.items() if name in names}
        pairs = {
            pair: each
            for pair, each in result.pairs.items()
            if all(name in names for name in pair.split("|"))
        }
        if own:
            found.append(replace(result, subjects=own, pairs=pairs))
    return found


def find_shared_failures(
    sources: Mapping[str, str], rows: Sequence[PointResult], *, limit: float
) -> frozenset[tuple[str, str]]:
    """Return the exports and isolated rows that fail as in their models: (export, row).

    `sources` are the models by the names of their exports; "" is none. Both fail there, and the
    export gives what its model gives, but for the rounding of two runs: of the same input, so that
    it is the same difference.
    """
    return frozenset(
        (name, row.row)
        for row in rows
        for name, source in sources.items()
        if _is_shared(row, source, name, limit=limit)
    )


def find_shared_shapes(
    sources: Mapping[str, str],
    rows: Sequence[PointResult],
    captures: Mapping[str, Path],
    *,
    limit: float,
) -> frozenset[tuple[str, str]]:
    """Return the exports and isolated rows of another shape than the reference's, as their models'.

    `sources` are those of `find_shared_failures`. An output of another shape has no error, and is
    read from the captures: an export's is its model's, but for the rounding of two runs.
    """
    found = set[tuple[str, str]]()
    with contextlib.ExitStack() as stack:
        readers = {n: stack.enter_context(CaptureReader(path)) for n, path in captures.items()}
        for row in rows:
            for name, source in sources.items():
                both = [row.subjects.get(name), row.subjects.get(source)]
                if row.floor is None or any(r is None or not r.shape_differs for r in both):
                    continue
                actual, expected = readers[name].read(row.row), readers[source].read(row.row)
                error = measure_error(actual=actual, expected=expected)
                # Each rounds by its own size, which may be another than the reference's.
                share = max(error.scale / (row.floor.scale or 1.0), 1.0)
                if (
                    error.mismatch is None
                    and not error.wrong
                    and error.rel_l2 <= 2 * limit * row.floor.rel_l2
                    and error.max_abs <= 2 * limit * row.floor.max_abs * share
                ):
                    found.add((name, row.row))
    return frozenset(found)


def _is_shared(row: PointResult, one: str, other: str, *, limit: float) -> bool:
    """Return whether two subjects differ at a row, and have one output but for rounding."""
    if one not in row.subjects or other not in row.subjects:
        return False
    first, second = row.subjects[one], row.subjects[other]
    pair = row.pairs.get(f"{one}|{other}") or row.pairs.get(f"{other}|{one}")
    if {first.status, second.status} != {Status.DIVERGED} or pair is None or row.floor is None:
        # What is not finite is left out of a pair's figures.
        return False
    # Each rounds by its own size, which may be another than the reference's.
    size = limit * (1.0 + first.rel_l2)
    largest = limit * (1.0 + first.max_abs / (row.floor.scale or 1.0))
    return pair.rel_l2 <= size * row.floor.rel_l2 and pair.max_abs <= largest * row.floor.max_abs


def _group_equal(points: Mapping[str, Sequence[ComparisonPoint]]) -> list[list[str]]:
    """Return the names of subjects that have the same points, in their order."""
    groups: dict[tuple[ComparisonPoint, ...], list[str]] = {}
    for name, own in points.items():
        groups.setdefault(tuple(own), []).append(name)
    return list(groups.values())


def _capture_layers(
    state: GraphState, runner: GraphRunner, points: Sequence[ComparisonPoint]
) -> Path:
    """Capture the reference's layers, with the tensors of no row, which the explanation reads."""
    name = state.reference.subject.name
    known = {state.table.by_name(point.row).tensors[name].tensor for point in points}
    graph = state.reference.graph
    others = [
        node.outputs[0]
        for node in graph.nodes
        if node.outputs and node.outputs[0] not in known
        if graph.tensors[node.outputs[0]].dtype == "float32"
    ]
    if state.request.explain and others:
        with contextlib.suppress(ParityError):
            # One that is not in float64 is no reason to have no layers.
            return runner.capture_reference(points, "layers", extra_points(graph, others))
    return runner.capture_reference(points, "layers")


def _judge_isolated(
    state: GraphState,
    runner: GraphRunner,
    points: Sequence[ComparisonPoint],
    capture: Path,
    captures: Mapping[str, Path],
) -> list[PointResult]:
    """Judge the isolated runs at the points that may fail; the others pass by the smallest floor.

    Only the floors of those that may fail are measured.
    """
    judged = criteria(state)
    with contextlib.ExitStack() as stack:
        readers = {n: stack.enter_context(CaptureReader(path)) for n, path in captures.items()}
        reference = stack.enter_context(CaptureReader(capture))
        rows = [point.row for point in points if point.row in reference]
        errors = measure_rows(rows, reference, readers, start_helpers=start_measurement_helpers)
        terms = isolated_terms(
            state.reference.graph,
            points,
            state.table,
            repeated=state.reference.inputs.repeats_values,
        )
        doubtful = [
            row for row in rows if _may_fail(row, errors[row], reference, terms[row], judged.limit)
        ]
        chosen = [point for point in points if point.row in doubtful]
        floors = runner.measure_isolated_floors(points, doubtful, capture) if doubtful else None
        return judge_rows(
            errors,
            reference=reference,
            floors={} if floors is None else floors.isolated_floors,
            subjects=readers,
            points=chosen,
            limit=judged.limit,
            precisions=judged.precisions,
            row_precisions=judged.row_precisions,
        )


def _may_fail(
    row: str, errors: RowErrors, reference: CaptureReader, terms: float, limit: float
) -> bool:
    """Return whether a subject's error is above the limit by the smallest floor that there is."""
    smallest = Floor.smallest(terms)
    found = list(errors.errors.values())
    if any(e.mismatch or e.wrong or not e.compared for e in found):
        return True
    if any(e.rel_l2 > limit * smallest.rel_l2 for e in found):
        return True
    largest = max((e.max_abs for e in found), default=0.0)
    if not largest:
        return False
    scale = max((float(np.abs(chunk).max()) for chunk in reference.chunks(row)), default=0.0)
    return not largest <= limit * ROUNDOFF * scale


def _find_followers(state: GraphState, results: Sequence[PointResult], name: str) -> set[str]:
    """Return the rows that fail and read from a row whose shape differs, or an operation that
    is missing and that another one reads before.

    A tensor of another shape cannot be replaced by the reference's, so what follows differs too.
    """
    graph = state.reference.graph
    failing = {r.row for r in results if name in r.subjects and r.subjects[name].status.is_failure}
    found, absent = set[str](), set[str]()
    for row in state.table.rows:
        missing = find_missing_operation(state, name, row) if row.name in failing else None
        if missing is not None:
            if missing.node.id in absent:
                found.add(row.name)
            absent.add(missing.node.id)
    other = {r.row for r in results if name in r.subjects and r.subjects[name].shape_differs}
    by_tensor = {row.tensors[state.reference.subject.name].tensor: row.name
                 for row in state.table.rows}  # fmt: skip
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
    state: GraphState, stages: Sequence[PointResult], layers: IsolatedRows | None
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
