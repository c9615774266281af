"""What a subject's operations read and give where each layer has the reference's input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.isolation import IsolatedRows
from parity.comparison.graphs.layout import channels_first
from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import main_node
from parity.explain.captures import round_to_float32
from parity.explain.inner_operations import list_inner_tensors, list_row_nodes
from parity.explain.misread_tensors import find_reach
from parity.network.alignment import infer_axes
from parity.network.graph import Graph
from parity.numerics.capture import CaptureReader
from parity.processes.graph_requests import GraphRunRequest, TensorPoint

Array = NDArray[Any]

MAX_WRITTEN_OUT = 2**30
"""The bytes, in float64, of what is read of operations within rows: a model of long sequences has
scores of many heads in each. Those of the rows behind are not explained one by one."""


def read_subject_tensors(
    state: GraphState,
    runner: GraphRunner,
    subject: str,
    rows: Sequence[GraphRow],
    layers: IsolatedRows,
) -> dict[str, Array]:
    """Return what the subject's operations of these rows read and give in the isolated run, by id.

    Where an operation reads the tensor of a row, that is the reference's.
    """
    model = state.models[subject]
    order = infer_axes(model.graph)
    nodes = [main_node(model.graph, row.nodes.get(subject, ())) for row in rows]
    wanted = dict.fromkeys(
        tensor
        for node in nodes
        if node is not None
        for tensor in (*node.inputs, *node.outputs[:1], *node.constant_ids.values())
    )
    left = MAX_WRITTEN_OUT
    for row in rows:
        if len(row.nodes.get(subject, ())) > 1:
            inner = list_inner_tensors(list_row_nodes(state, subject, row)[1])
            left -= 8 * sum(_count_values(model.graph, tensor) for tensor in dict.fromkeys(inner))
            wanted.update(dict.fromkeys(inner if left >= 0 else ()))
    for tensor in list(wanted):
        before = model.graph.producers.get(tensor)
        wanted.update(dict.fromkeys(() if before is None else before.inputs))
        # What it is a part of, or the same values in another order.
        wanted.update(dict.fromkeys(sorted(find_reach(model.graph, tensor))))
    points = [state.table.by_name(point.row).tensors[subject] for point in layers.points[subject]]
    by_tensor = {point.tensor: point for point in points}
    ports = {port.tensor: port.name for port in model.graph.inputs}
    others = [tensor for tensor in wanted if tensor not in ports]
    own = {tensor: f"own:{number}" for number, tensor in enumerate(others)}
    path = runner.folder / f"explain.{subject}.safetensors"
    request = GraphRunRequest(
        inputs=str(model.input_file),
        points=(
            *points,
            *(TensorPoint(own[t], t, channels_first(order.get(t, ""))) for t in others),
        ),
        out=str(path),
        feed=str(layers.reference),
        device=model.subject.device,
        precision=state.request.precision,
    )
    runner.children[model.subject.child].call("run_graph", **request.to_json())
    found: dict[str, Array] = {}
    with CaptureReader(path) as reader, CaptureReader(layers.reference) as feed:
        for tensor, name in own.items():
            if tensor not in model.graph.tensors:
                if name in reader:
                    found[tensor] = np.asarray(reader.read(name), np.float64)
                continue
            point = by_tensor.get(tensor)
            shape = model.graph.tensors[tensor].shape
            value = None if point is None or point.name not in feed else feed.read(point.name)
            # A tensor of another size is not replaced by the reference's.
            if point is not None and value is not None and value.size == math.prod(shape):
                value = round_to_float32(value)
                array = point.invert(value, shape)
                for rearrangement in channels_first(order.get(tensor, "")):
                    array = rearrangement.apply(array)
            else:
                array = reader.read(name)
            found[tensor] = np.asarray(array, np.float64)
    for tensor, name in ports.items():
        array = model.inputs.arrays[name]
        for rearrangement in channels_first(order.get(tensor, "")):
            array = rearrangement.apply(array)
        found[tensor] = np.asarray(array, np.float64)
    return found


def _count_values(graph: Graph, tensor: str) -> int:
    """Return the number of values of a tensor; 0 for a constant, which is no tensor of the run."""
    return math.prod(graph.tensors[tensor].shape) if tensor in graph.tensors else 0
