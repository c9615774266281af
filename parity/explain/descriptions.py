"""The models' descriptions of their layers, and the names of layers in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from parity.comparison.state import State
from parity.network.table import LayerTable, Row, parse_torch_point
from parity.processes import registry
from parity.processes.subjects import runs_graph, runtime_of, side_of

LayerDescription = Mapping[str, Any]
"""One layer of a description: see `parity.network.structure`."""


@dataclass(frozen=True)
class Descriptions:
    """The descriptions of the models that were compared."""

    by_side: Mapping[str, Mapping[str, Any]]
    by_subject: Mapping[str, Mapping[str, Any]]
    """Those of subjects that have a child process of their own, such as `keras[jax]`."""
    file_sides: frozenset[str]
    """The sides whose graph is a file of the user's, which has no description."""

    @classmethod
    def of(cls, state: State) -> Self:
        """Return the descriptions that a comparison has read."""
        sides = {side_of(name) for name in state.request.subjects}
        files = frozenset(side for side in sides if state.request.graph_file(side) is not None)
        return cls(state.descriptions, state.further_descriptions, files)

    def layers(self, subject: str) -> Sequence[LayerDescription]:
        """Return the layers of the subject's model, in execution order."""
        description = self.by_subject.get(subject) or self.by_side.get(side_of(subject), {})
        layers: Sequence[LayerDescription] = description.get("layers", ())
        return layers

    def layer(self, subject: str, row: Row) -> LayerDescription:
        """Return the subject's layer of a row; empty for a graph from a file."""
        if runs_graph(subject) and side_of(subject) in self.file_sides:
            return {}
        return next((layer for layer in self.layers(subject) if layer["row"] == row.name), {})

    def in_place_rows(self, subject: str, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return those of `rows` whose layers state that they overwrite their input."""
        # The nodes of a graph and Keras's layers never write in place.
        if not registry.get(runtime_of(subject)).writes_in_place:
            return ()
        return tuple(row.name for row in rows if self.layer(subject, row).get("in_place"))


def label_layer(subject: str, row: Row, description: LayerDescription, table: LayerTable) -> str:
    """Return a layer's name in its framework: Conv2D `conv1_conv`, or the graph's node."""
    if runs_graph(subject):
        return f"the node that makes `{table.tensor_name(row)}`"
    kind = description.get("class") or row.kind
    return f"{kind} `{description.get('name') or getattr(row, side_of(subject))}`"


def find_other_calls(subject: str, row: Row, table: LayerTable) -> tuple[str, ...]:
    """Return the rows that are other calls of this row's layer object, by the table."""
    if runs_graph(subject):
        # Each node of a graph runs once.
        return ()
    side = side_of(subject)
    own = _layer_object(row, side)
    return tuple(
        other.name
        for other in table.rows
        if own and other.name != row.name and _layer_object(other, side) == own
    )


def _layer_object(row: Row, side: str) -> str:
    """Return the name of a row's layer object without its call; empty for a module's input."""
    if side == "keras":
        return row.keras.partition("#")[0]
    point = parse_torch_point(row.torch) if row.torch else None
    return "" if point is None or point.is_input else point.module
