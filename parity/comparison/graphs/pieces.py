"""The smallest part of two aligned models around a difference, as each child writes it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.errors import GraphError
from parity.network.graph import Graph
from parity.network.rearrangement import Rearrangement
from parity.numerics.capture import CaptureReader
from parity.numerics.npz import load_npz
from parity.numerics.points import ComparisonPoint
from parity.processes.graph_requests import PieceCode

Array = NDArray[Any]

MAX_BEFORE = 2
"""How many rows before the one that differs a piece may have, where it cannot be cut closer."""

MAX_BEHIND = 2
"""How many rows behind the one that differs its output may be."""

MAX_OPERATIONS = 24
"""The operations that a piece has at most, in either model."""


@dataclass(frozen=True)
class Place:
    """Where a piece ends, and the rows before that are inside it."""

    end: GraphRow
    inside: frozenset[str]


@dataclass(frozen=True)
class PieceSide:
    """One model's part: its code, and how its tensors become those of the file.

    `inputs` has, for each id that the code reads, the key of the array, the rearrangements that
    give it the comparison's axes, its own shape and dtype.
    """

    subject: str
    code: PieceCode
    weights: Mapping[str, Array]
    inputs: Mapping[str, tuple[str, tuple[Rearrangement, ...], tuple[int, ...], str]]
    output: tuple[Rearrangement, ...]


@dataclass(frozen=True)
class Piece:
    """A part of both models that ends at one row, with the arrays that both read.

    `expected` is the output of the reference in float64, `found` the subject's own, given the same
    arrays inside the whole model; both in the comparison's axes.
    """

    end: GraphRow
    reference: PieceSide
    subject: PieceSide
    arrays: Mapping[str, Array]
    expected: Array
    found: Array

    @property
    def size(self) -> int:
        """The number of layers and lines of the user's code, in the model that has more."""
        return max(self.reference.code.layers, self.subject.code.layers)


def propose_places(
    state: GraphState, subject: str, layer: str | None, stage: str
) -> Iterator[Place]:
    """Yield the places of a piece that shows a difference, small ones first.

    `layer` is the first row that differs in isolation; where there is none, a whole `stage` is.
    """
    names = {state.reference.subject.name, subject}
    rows = [row for row in state.table.rows if names <= set(row.tensors)]
    order = [row.name for row in rows]
    if layer is None or layer not in order:
        inside = [row for row in rows if row.stage == stage]
        if inside:
            yield Place(inside[-1], frozenset(row.name for row in inside[:-1]))
        return
    at = order.index(layer)
    for behind in range(MAX_BEHIND + 1):
        for before in range(MAX_BEFORE + 1):
            if at + behind >= len(rows):
                return
            inside_rows = order[max(at - before, 0) : at + behind]
            yield Place(rows[at + behind], frozenset(inside_rows))


def cut_piece(
    state: GraphState, runner: GraphRunner, reference: str, subject: str, place: Place
) -> Piece:
    """Return the piece of a place; raises `GraphError` where a model cannot be cut there.

    `reference` is the subject that is right.
    """
    order = {row.name: at for at, row in enumerate(state.table.rows)}
    end = order[place.end.name]
    known = [
        row
        for row in state.table.rows
        if order[row.name] < end and row.name not in place.inside
        if _have_equal_size(state, row, (reference, subject))
    ]
    sides = [_generate_side(state, runner, name, place.end, known) for name in (reference, subject)]
    for side in sides:
        if len(side.code.labels) > MAX_OPERATIONS:
            raise GraphError(
                f"{place.end.name}: {len(side.code.labels)} operations of {side.subject} are one "
                f"piece; expected at most {MAX_OPERATIONS}"
            )
    read = {key for side in sides for key, *_ in side.inputs.values()}
    points = [
        point
        for point in state.table.points("layer", [reference, subject])
        if point.row in read or point.row == place.end.name
    ]
    arrays, expected, found = _capture_boundary(runner, points, subject, place.end.name)
    for side in sides:
        for key, _, _, dtype in side.inputs.values():
            if key in arrays and not dtype.startswith(("float", "bfloat")):
                # A capture holds integers as floating numbers.
                arrays[key] = arrays[key].astype(np.int64)
    for model in (state.models[reference], state.models[subject]):
        for name, array in model.inputs.arrays.items():
            key = make_own_input_key(model.subject.name, name)
            if key in read:
                arrays[key] = array
    return Piece(place.end, sides[0], sides[1], arrays, expected, found)


def make_own_input_key(subject: str, name: str) -> str:
    """Return the key of one model's own input among the arrays of a piece."""
    return f"input {name} of {subject}"


def _have_equal_size(state: GraphState, row: GraphRow, names: Collection[str]) -> bool:
    """Return whether both models have a row's tensor with as many values."""
    sizes = set()
    for name in names:
        if name not in row.tensors:
            return False
        shape = _graph(state, name).tensors[row.tensors[name].tensor].shape
        sizes.add(int(np.prod(shape, dtype=int)))
    return len(sizes) == 1


def _graph(state: GraphState, name: str) -> Graph:
    return state.models[name].graph


def _generate_side(
    state: GraphState,
    runner: GraphRunner,
    name: str,
    end: GraphRow,
    known: Collection[GraphRow],
) -> PieceSide:
    model = state.models[name]
    runner.progress(name, f"cutting out {end.name}")
    by_tensor = {row.tensors[name].tensor: row for row in known}
    weights = runner.folder / f"piece.{name}.npz"
    answer = runner.children[model.subject.child].call(
        "write_piece",
        inputs=str(model.input_file),
        output=end.tensors[name].tensor,
        boundary=list(by_tensor),
        weights=str(weights),
    )
    code = PieceCode.from_json(answer)
    ports = {port.tensor: port.name for port in model.graph.inputs}
    inputs = {}
    for tensor in code.reads:
        described = model.graph.tensors[tensor]
        if tensor in by_tensor:
            row = by_tensor[tensor]
            key, rearrangements = row.name, row.tensors[name].rearrangements
        else:
            key, rearrangements = make_own_input_key(name, ports[tensor]), ()
        inputs[tensor] = (key, rearrangements, described.shape, described.dtype)
    return PieceSide(name, code, load_npz(weights), inputs, end.tensors[name].rearrangements)


def _capture_boundary(
    runner: GraphRunner, points: list[ComparisonPoint], subject: str, end: str
) -> tuple[dict[str, Array], Array, Array]:
    """Return what the rows before have in the reference, and what both models have at the end."""
    reference: Path = runner.capture_reference(points, "piece")
    own = runner.run_subject(subject, points, "piece", feed=reference).path
    with CaptureReader(reference) as right, CaptureReader(own) as other:
        arrays = {point.row: right.read(point.row) for point in points if point.row != end}
        return arrays, right.read(end), other.read(end)
