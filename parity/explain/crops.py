"""What is cropped of a layer's output before it is read, as a part of the layer's padding.

What pads on both sides and crops on one is written differently from what pads on one alone.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.layout import move_channels_first
from parity.comparison.graphs.points import GraphRow
from parity.explain.proof.layer import Layer, evaluate
from parity.network import kinds
from parity.network.alignment import infer_axes
from parity.network.graph import Graph, Node

if TYPE_CHECKING:
    from parity.explain.graph_evidence import GraphEvidence

Array = NDArray[Any]


def fold_crop(graph: Graph, node: Node, layer: Layer, expected: Array) -> tuple[Layer, Array]:
    """Return a layer and its output with what all that reads of it leaves out; as they are else.

    What pads on both sides and crops on one has, for all that reads it, the padding of the other.
    `expected` is channels first. An axis that is cropped must have a stride of 1.
    """
    padding = layer.hyper.get("padding")
    if not padding or len(padding) != expected.ndim - 2:
        return layer, expected
    region = _find_region(graph, node, expected.shape)
    if region is None:
        return layer, expected
    left_out = [(b, n - e) for (b, e), n in zip(region, expected.shape, strict=True)]
    strides = np.broadcast_to(layer.hyper.get("stride", 1), len(padding))
    total = [[p - b, q - e] for (p, q), (b, e) in zip(padding, left_out[2:], strict=True)]
    is_strided = any(s != 1 and any(crop) for s, crop in zip(strides, left_out[2:], strict=True))
    if any(map(any, left_out[:2])) or is_strided or min(map(min, total)) < 0:
        return layer, expected
    folded = replace(layer, hyper={**layer.hyper, "padding": total})
    read = expected[tuple(slice(*each) for each in region)]
    # The padding of a transposed convolution is the other way round.
    return (folded, read) if evaluate(folded).shape == read.shape else (layer, expected)


def _find_region(graph: Graph, node: Node, shape: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Return, by axis of a node's output, from where to where one reader takes all that is read.

    None where there are several readers, or one that takes no such region.
    """
    readers = graph.consumers.get(node.outputs[0], ())
    if len(readers) != 1 or any(port.tensor == node.outputs[0] for port in graph.outputs):
        return None
    reader = move_channels_first(graph, readers[0], infer_axes(graph))
    if len(reader.inputs) != 1 or not kinds.properties(reader.kind).moves_values:
        return None
    places = np.arange(float(math.prod(shape))).reshape(shape)
    try:
        read = np.asarray(kinds.evaluate(reader.kind, (places,), {}, reader.hyper))
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    if read.ndim != places.ndim or not read.size:
        return None
    begins = np.unravel_index(int(read.flat[0]), shape)
    region = [(int(b), int(b) + n) for b, n in zip(begins, read.shape, strict=True)]
    is_region = np.array_equal(places[tuple(slice(*each) for each in region)], read)
    return region if is_region else None


def crop_output(
    evidence: GraphEvidence, subject: str, row: GraphRow, actual: Array
) -> Array | None:
    """Return what is read of a row that has another shape than the reference's, if that has its.

    What pads on both sides and crops on one is written differently from what pads on one alone.
    """
    graph, reference = evidence.state.models[subject].graph, evidence.state.reference.graph
    point, wanted = row.tensors[subject], reference.by_id[row.node].outputs[0]
    readers = graph.consumers.get(point.tensor, ())
    is_output = any(port.tensor == point.tensor for port in graph.outputs)
    if not readers or is_output or wanted not in evidence.reference_tensors:
        return None
    shape = evidence.reference_tensors.shape(wanted)
    if shape == actual.shape:
        return None
    found = []
    for node in readers:
        if len(node.inputs) != 1 or not kinds.properties(node.kind).moves_values:
            return None
        try:
            own = np.asarray(point.invert(actual, graph.tensors[point.tensor].shape), np.float64)
            output = point.apply(kinds.evaluate(node.kind, (own,), {}, node.hyper))
        except (ValueError, KeyError, IndexError, TypeError):
            return None
        found.append(np.asarray(output))
    is_one = all(np.array_equal(each, found[0]) for each in found)
    return found[0] if is_one and found[0].shape == shape else None
