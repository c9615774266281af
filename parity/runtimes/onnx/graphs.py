"""The graphs that ONNX Runtime's child has: traced structures with weights, and complete files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from exporters import graph as onnx_graph
from parity.network import kinds
from parity.network.table import LayerTable

Array = NDArray[Any]


class Graph(Protocol):
    """An exported graph with its weights, and the table that names its tensors."""

    @property
    def table(self) -> LayerTable: ...

    def model(self, outputs: Sequence[str] = ()) -> onnx_graph.WeightedModel:
        """Return the deployable model; with `outputs`, these tensors are outputs too."""
        ...


@dataclass(frozen=True)
class TracedGraph:
    """A structure and its weights, under the structure's own names."""

    structure: onnx_graph.Structure
    values: Mapping[str, Array]
    table: LayerTable

    def model(self, outputs: Sequence[str] = ()) -> onnx_graph.WeightedModel:
        return onnx_graph.inject(self.structure, self.values, outputs=outputs)


@dataclass(frozen=True)
class FileGraph:
    """A complete ONNX file."""

    proto: onnx.ModelProto
    table: LayerTable

    def model(self, outputs: Sequence[str] = ()) -> onnx_graph.WeightedModel:
        model = onnx_graph.add_outputs(self.proto, outputs) if outputs else self.proto
        return onnx_graph.WeightedModel(model, {})


def load_structure(
    path: Path, table: LayerTable, values: Mapping[str, Array], framework: str
) -> TracedGraph:
    """Read a structure that was traced from a framework, and pair it with canonical weights."""
    structure = onnx_graph.Structure.load(path)
    by_name = framework_weights(table, values, framework)
    return TracedGraph(structure, {name: by_name[name] for name in structure.weights}, table)


def framework_weights(
    table: LayerTable, values: Mapping[str, Array], framework: str
) -> dict[str, Array]:
    """Return canonical weights under the names and in the layouts of a framework."""
    if framework == "torch":
        return dict(values)
    return {
        # A view: the graph's own transposes of kernels undo the reordering without a copy.
        f"{row.keras}/{weight.keras}": kinds.get(row.kind)
        .role(weight.role)
        .to_keras(values[weight.name])
        for row, weight in table.weights()
        if row.keras
    }
