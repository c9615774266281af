"""Rows that differ although all that reads them is right: parts that are written differently.

One model scales a tensor before it is normalised, the other after it. The tensors between the two
are paired and differ, and what is given the reference's tensor there differs too; what is given the
subject's own tensor agrees. Such a row is no difference, and is not fed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.comparison.graphs.points import GraphRow, isolated_terms
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import find_differences
from parity.network import kinds
from parity.network.graph import Graph, Node
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.measurement import measure_rows
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import PointResult, Status

MIN_RATIO = 1e4
"""A row that is written differently differs by at least this many floors: by its own size."""

MAX_RATIO = 10.0
"""What reads such a row is right up to this many floors of its own part, of which it is longer."""


def find_rewritings(
    state: GraphState,
    runner: GraphRunner,
    name: str,
    points: Sequence[ComparisonPoint],
    results: Sequence[PointResult],
    capture: Path,
    stages: Sequence[PointResult] = (),
) -> frozenset[str]:
    """Return the rows of a subject that differ in isolation, and all of whose readers are right.

    `results` are those of the isolated run at the points, `capture` is what it was given, `stages`
    are those of the whole run. The subject is run once more, with its own tensors in the rows that
    may be written differently, and in those behind them that fail.
    """
    failing = {
        r.row: r for r in results if name in r.subjects and r.subjects[name].status.is_failure
    }
    readers = find_readers(state, name, [point.row for point in points])
    # What is padded by a layer and cropped behind it has another shape in between.
    shapes = {row for row, result in failing.items() if result.subjects[name].shape_differs}
    excluded = _list_excluded(state, name, stages, shapes)
    candidates = [
        row
        for row in failing
        if row not in excluded and _may_be_rewritten(state, name, failing[row], readers)
    ]
    if not candidates:
        return frozenset()
    unfed = _reach(candidates, readers, failing)
    ends = {reader for row in unfed for reader in readers[row]}
    run = runner.run_subject(name, points, "rewritten", feed=capture, unfed=unfed)
    ratios = _measure_ratios(state, points, results, unfed | ends, capture, run.path)
    evidence = _Evidence(state, readers, failing.keys(), shapes, ratios)
    return evidence.select(candidates, [point.row for point in points])


@dataclass(frozen=True)
class _Evidence:
    """What a run with the subject's own tensors in some rows shows of them."""

    state: GraphState
    readers: Mapping[str, Collection[str]]
    failing: Collection[str]
    """The rows that fail when they are given the reference's tensors."""
    shapes: Collection[str]
    """Those of another shape, which cannot be given the reference's."""
    ratios: Mapping[str, float]
    """The error of each row in this run, in floors."""

    def select(self, candidates: Collection[str], order: Sequence[str]) -> frozenset[str]:
        """Return the candidates that no reader shows to be wrong; `order` is that of all rows."""
        found = set[str]()
        # What reads a row stands behind it.
        for row in reversed(order):
            if row in candidates and self.ratios[row] > MAX_RATIO:
                behind = self.readers[row]
                if all(each in found or self._shows_right(row, each) for each in behind):
                    found.add(row)
        # What one line writes otherwise, it does before a layer that is wrong too: of that nothing
        # is known, since it is wrong with the reference's tensor as well.
        places = {_find_place(self.state, row) for row in found}
        for row in candidates:
            place = _find_place(self.state, row)
            if place is not None and place in places and row not in self.shapes:
                behind = [
                    each
                    for each in self.readers[row]
                    if each not in self.failing and each not in found
                ]
                if all(self._shows_right(row, each) for each in behind):
                    found.add(row)
        return frozenset(found)

    def _shows_right(self, row: str, reader: str) -> bool:
        """Return whether a reader is right, and would not be if the row were wrong.

        A maximum, a kink and a comparison show few of the values that they read. What takes the
        right part of a tensor of another shape has found it.
        """
        graph = self.state.reference.graph
        node, source = (graph.by_id[self.state.table.by_name(each).node] for each in (reader, row))
        maxima = {kind.maximum for kind in kinds.registry().values() if kind.maximum}
        hides = (
            node.kind in maxima
            or (_gives_floats(graph, source) and not _gives_floats(graph, node))
            or (kinds.properties(node.kind).has_kink and row not in self.shapes)
        )
        return not hides and self.ratios[reader] <= MAX_RATIO


def _gives_floats(graph: Graph, node: Node) -> bool:
    return "float" in graph.tensors[node.outputs[0]].dtype


def _list_excluded(
    state: GraphState, name: str, stages: Sequence[PointResult], shapes: Collection[str]
) -> set[str]:
    """Return the rows that are wrong whatever reads them.

    They are the models' outputs, the points at which the whole run differs, and the operations of
    one kind with other settings, but for those in `shapes`, which differ in the shape.
    """
    model, alignment = state.models[name], state.alignments.get(name)
    outputs = {port.tensor for port in state.reference.graph.outputs}
    own_outputs = {port.tensor for port in model.graph.outputs}
    differences = () if alignment is None else find_differences(state.reference, model, alignment)
    settings = {each.reference_node for each in differences if each.field != "kind"}
    found = set(state.table.outputs)
    if state.request.depth != "layer":
        found |= {
            each.row
            for each in stages
            if name in each.subjects and each.subjects[name].status.is_failure
        }
    reference = state.reference.subject.name
    for row in state.table.rows:
        if name not in row.tensors or reference not in row.tensors:
            continue
        is_output = (
            row.tensors[reference].tensor in outputs or row.tensors[name].tensor in own_outputs
        )
        if is_output or (row.node in settings and row.name not in shapes):
            found.add(row.name)
    return found


def _find_place(state: GraphState, row: str) -> tuple[str, str] | None:
    """Return the line of the reference's code that makes a row, and its kind; None if unknown."""
    own = state.table.by_name(row)
    source = state.reference.graph.by_id[own.node].source
    return (source, own.kind) if source else None


def _may_be_rewritten(
    state: GraphState, name: str, result: PointResult, readers: Mapping[str, Collection[str]]
) -> bool:
    """Return whether a row has readers, differs by its own size, and has no kernel."""
    row = state.table.by_name(result.row)
    own = result.subjects[name]
    # A mask of -inf and one of a large negative number differ by no finite number.
    is_infinite = own.status is Status.NON_FINITE
    is_large = own.shape_differs or is_infinite or own.x_floor >= MIN_RATIO
    node = state.reference.graph.by_id[row.node]
    has_kernel = bool(node.parameters) and not kinds.properties(node.kind).affine
    is_open = own.shape_differs or not has_kernel
    return is_large and is_open and bool(readers[row.name])


def find_readers(state: GraphState, name: str, rows: Sequence[str]) -> dict[str, set[str]]:
    """Return, by row, the rows that read its tensor with no other row between, in either model."""
    reference = state.reference.subject.name
    found: dict[str, set[str]] = {row: set() for row in rows}
    for subject, graph in ((reference, state.reference.graph), (name, state.models[name].graph)):
        by_tensor = {_tensor_of(state.table.by_name(row), subject): row for row in rows}
        for tensor, row in by_tensor.items():
            found[row] |= _follow(graph, tensor, by_tensor)
    return found


def _tensor_of(row: GraphRow, subject: str) -> str:
    return row.tensors[subject].tensor


def _follow(graph: Graph, tensor: str, by_tensor: Mapping[str, str]) -> set[str]:
    """Return the rows of the nearest tensors behind one."""
    waiting, seen, found = [tensor], {tensor}, set[str]()
    while waiting:
        for node in graph.consumers.get(waiting.pop(), ()):
            for output in node.outputs:
                if output in by_tensor:
                    found.add(by_tensor[output])
                elif output not in seen:
                    seen.add(output)
                    waiting.append(output)
    return found


def _reach(
    candidates: Sequence[str], readers: Mapping[str, Collection[str]], failing: Collection[str]
) -> set[str]:
    """Return the candidates and the rows that fail behind them, with none that is right between."""
    waiting, found = list(candidates), set(candidates)
    while waiting:
        behind = [row for row in readers[waiting.pop()] if row in failing and row not in found]
        found.update(behind)
        waiting += behind
    return found


def _measure_ratios(
    state: GraphState,
    points: Sequence[ComparisonPoint],
    results: Sequence[PointResult],
    rows: Collection[str],
    capture: Path,
    path: Path,
) -> dict[str, float]:
    """Return the error of a run at rows in floors of their parts; infinite for another shape."""
    floors = {result.row: result.floor for result in results}
    terms = isolated_terms(
        state.reference.graph, points, state.table, repeated=state.reference.inputs.repeats_values
    )
    ratios = {}
    with contextlib.ExitStack() as stack:
        reference, own = (stack.enter_context(CaptureReader(each)) for each in (capture, path))
        chosen = [row for row in rows if row in reference]
        errors = measure_rows(chosen, reference, {"own": own})
        for row in rows:
            error = None if row not in errors else errors[row].errors.get("own")
            if error is None or error.mismatch or error.wrong or not error.compared:
                ratios[row] = float("inf")
                continue
            floor = floors.get(row) or Floor.smallest(terms[row])
            ratios[row] = error.rel_l2 / floor.rel_l2
    return ratios
