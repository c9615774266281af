"""The user's source of a model: its files, and the layers that one call constructs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import fold_padding, main_node
from parity.explain.repair.source import CallPlace
from parity.network.graph import Node


@dataclass(frozen=True)
class SourceFiles:
    """The user's source: the calls that construct layers, by layer path, and the files' texts."""

    places: Mapping[str, CallPlace]
    texts: Mapping[str, str]

    def find_line(self, node: Node) -> tuple[str, int] | None:
        """Return the file and the line where a node's operation is written, or None."""
        name, _, line = node.source.rpartition(":")
        found = [file for file in self.texts if Path(file).name == name]
        return (found[0], int(line)) if len(found) == 1 and line.isdigit() else None

    def find_layer_class(self, node: Node, argument: str = "") -> CallPlace | None:
        """Return the call that constructs the framework's own layer of a node.

        None where a class of the user's computes it, unless its own `__init__` has the argument.
        """
        place = self.places.get(node.path)
        if place is None or place.file not in self.texts:
            return None
        own = re.compile(rf"^\s*class {re.escape(place.made)}\b", re.MULTILINE)
        if any(own.search(text) for text in self.texts.values()):
            return place if argument and argument in place.parameters else None
        return place

    def quote_line(self, node: Node) -> str:
        """Return the file, the number and the text of the line of a node; empty if not known."""
        line = self.find_line(node)
        return "" if line is None else self.quote(*line)

    def quote(self, file: str, line: int) -> str:
        """Return the file's name, the number and the text of a line; empty if there is none."""
        lines = self.texts[file].splitlines()
        if not 0 < line <= len(lines):
            return ""
        return f"{Path(file).name}:{line}: {lines[line - 1].strip()}"


@dataclass(frozen=True)
class Sibling:
    """One of the operations that one call in the source constructs, and what it should have."""

    node: Node
    wanted: Mapping[str, Any]
    sizes: tuple[int, ...]


def find_siblings(state: GraphState, subject: str, node: Node, files: SourceFiles) -> list[Sibling]:
    """Return the paired operations whose layers the call of a node's layer constructs."""
    place, graph = files.places.get(node.path), state.models[subject].graph
    found: dict[str, Sibling] = {}
    for row in state.table.rows if place is not None else ():
        own = main_node(graph, row.nodes.get(subject, ()))
        if own is None or own.kind != node.kind or files.places.get(own.path) != place:
            continue
        reference = state.reference.graph
        wanted = fold_padding(reference, reference.by_id[row.node]).hyper
        found.setdefault(own.path, Sibling(own, wanted, spatial_sizes(state, subject, row, ())))
    order = {each.id: at for at, each in enumerate(graph.nodes)}
    return sorted(found.values(), key=lambda each: order[each.node.id])


def spatial_sizes(
    state: GraphState, subject: str, row: GraphRow, fallback: Sequence[int]
) -> tuple[int, ...]:
    """Return the spatial sizes of the input of the subject's operation."""
    graph = state.models[subject].graph
    node = main_node(graph, row.nodes.get(subject, ()))
    if node is None or not node.inputs:
        return tuple(fallback[2:])
    tensor = graph.tensors[node.inputs[0]]
    axes = tensor.axes.split()
    if axes[1:2] == ["C"]:
        return tensor.shape[2:]
    return tensor.shape[1:-1] if graph.framework == "keras" else tensor.shape[2:]
