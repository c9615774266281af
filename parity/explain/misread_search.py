"""The search for what a subject's operation reads of earlier tensors and the reference does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.layout import channels_first, is_signal
from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.reference_tensors import ReferenceTensors
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import locate
from parity.explain import misread_tensors
from parity.explain.captures import round_to_float32
from parity.explain.proof.failing_layer import MisreadTensor
from parity.network.alignment import infer_axes
from parity.network.graph import Graph, Node
from parity.processes.graph_requests import TensorPoint

Array = NDArray[Any]


@dataclass(frozen=True)
class MisreadSearch:
    """Finds the tensors that a subject makes of other values of earlier tensors, in one row."""

    state: GraphState
    reference_tensors: ReferenceTensors
    """The reference's float64 tensors by id, channels first where the axes are known."""
    subject_tensors: Mapping[str, Array]
    """What the subject's operations read and give in the isolated run, by id, channels first."""
    subject: str
    row: GraphRow

    def find_inputs(self, node: Node, own: Node) -> dict[int, MisreadTensor]:
        """Return the inputs that the subject's operation `own` makes of others, by place.

        `node` is the reference's operation.
        """
        if len(node.inputs) != len(own.inputs):
            return {}
        found = {}
        for place, ends in enumerate(zip(node.inputs, own.inputs, strict=True)):
            misread = self._find_of_rows(*ends) or self._find_other_place(*ends)
            if misread is not None:
                found[place] = misread
        return found

    def find_output(self, node: Node, own: Node) -> MisreadTensor | None:
        """Return the output of an operation that only moves values, if it takes others."""
        tensor = self.row.tensors[self.subject].tensor
        return self._find_of_rows(node.outputs[0], tensor) if tensor in own.outputs else None

    def _find_of_rows(self, wanted: str, found: str) -> MisreadTensor | None:
        """Return the values in the subject's tensor `found`, if `wanted` has others of a row."""
        state = self.state
        reference, model = state.reference.graph, state.models[self.subject].graph
        others = [each for each in state.table.rows if each.name != self.row.name]
        name = state.reference.subject.name
        sources = misread_tensors.find_sources(others, name, self.subject)
        values = {
            tensor: restore_axes(reference, tensor, self.reference_tensors[tensor])
            for tensor in misread_tensors.find_reach(reference, wanted)
            if tensor in self.reference_tensors and tensor in reference.tensors
        }
        misread = misread_tensors.find_misread(sources, (reference, wanted), (model, found), values)
        if misread is None:
            return None
        return replace(misread, values=round_to_float32(self._as_operand(misread.values)))

    def _find_other_place(self, wanted: str, found: str) -> MisreadTensor | None:
        """Return what the subject reads of a tensor of its own, if another place of it is right."""
        graph, known = self.state.models[self.subject].graph, self.subject_tensors
        if wanted not in self.reference_tensors:
            return None
        values = {
            tensor: np.asarray(restore_axes(graph, tensor, known[tensor]), np.float64)
            for tensor in misread_tensors.find_reach(graph, found)
            if tensor in known and tensor in graph.tensors
        }
        expected = self.reference_tensors[wanted]
        place = misread_tensors.find_other_place(graph, found, values, expected)
        if place is None:
            return None
        source, misread = place
        producer = graph.producers.get(source)
        name = source if producer is None else locate(producer)
        return MisreadTensor(
            self._as_operand(misread.values),
            misread.description.format(name),
            misread.remedy.format(name),
        )

    def _as_operand(self, values: Array) -> Array:
        """Return channels-first values with the axes that the row's operator reads."""
        graph = self.state.reference.graph
        is_turned = is_signal(graph, graph.by_id[self.row.node], infer_axes(graph))
        return values.swapaxes(1, 2) if is_turned else values


def restore_axes(graph: Graph, tensor: str, array: Array) -> Array:
    """Return a channels-first tensor in the axes that the model has."""
    rearrangements = channels_first(infer_axes(graph).get(tensor, ""))
    return TensorPoint("", tensor, rearrangements).invert(array, graph.tensors[tensor].shape)
