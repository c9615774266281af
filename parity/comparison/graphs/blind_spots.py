"""What an input cannot show: a limit that no value reaches, a padding beside zeros alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import SubjectModel
from parity.comparison.graphs.structure import locate
from parity.comparison.graphs.values import open_values
from parity.network.graph import Graph, Node
from parity.processes.graph_requests import GraphRunRequest, TensorPoint

Array = NDArray[Any]


@dataclass(frozen=True)
class BlindSpot:
    """An operation of which the run shows one case alone, and a text that says which it lacks."""

    node: str
    text: str


def find_limits(node: Node) -> tuple[float, float]:
    """Return the values below and above which an activation is clipped; infinite for none."""
    hyper = node.hyper
    match node.kind:
        case "relu6":
            limits: tuple[Any, Any] = (None, 6.0)
        case "bounded_relu":
            limits = (None, hyper.get("max_value"))
        case "clip":
            limits = (hyper.get("low"), hyper.get("high"))
        case "hard_sigmoid":
            slope, offset = hyper.get("slope", 1 / 6), hyper.get("offset", 0.5)
            limits = (-offset / slope, (1 - offset) / slope)
        case "hard_swish":
            limits = (-3.0, 3.0)
        case _:
            limits = (None, None)
    lower, upper = limits
    return (
        -math.inf if lower is None else float(lower),
        math.inf if upper is None else float(upper),
    )


_NO_LIMITS = (-math.inf, math.inf)


def find_blind_spots(runner: GraphRunner, model: SubjectModel) -> list[BlindSpot]:
    """Return what a run of the model cannot show, in execution order.

    A clipped activation shows its limit only if a value is beyond it, and a padding its kind only
    if a value beside it is not 0.
    """
    graph = model.graph
    clipped = [node for node in graph.nodes if find_limits(node) != _NO_LIMITS]
    padded = [node for node in graph.nodes if _reads_port(graph, node) and _pads(node)]
    found: dict[str, BlindSpot] = {}
    for node in padded:
        array = model.inputs.arrays[_port_name(graph, node.inputs[0])]
        if not _has_border(array):
            text = f"the padding of {locate(node)}: every value at the border of the input is 0"
            found[node.id] = BlindSpot(node.id, text)
    if clipped:
        found |= _find_unreached(runner, model, clipped)
    return [found[node.id] for node in graph.nodes if node.id in found]


def _find_unreached(
    runner: GraphRunner, model: SubjectModel, nodes: Sequence[Node]
) -> dict[str, BlindSpot]:
    path = runner.folder / "limits.safetensors"
    tensors = dict.fromkeys(node.inputs[0] for node in nodes)
    request = GraphRunRequest(
        inputs=str(model.input_file),
        points=tuple(TensorPoint(tensor, tensor) for tensor in tensors),
        out=str(path),
    )
    runner.children[model.subject.child].call("run_graph", **request.to_json())
    found = {}
    with open_values(path) as read:
        for node in nodes:
            array, (lower, upper) = read(node.inputs[0]), find_limits(node)
            smallest = float(np.min(array, initial=math.inf))
            largest = float(np.max(array, initial=-math.inf))
            text = ""
            if math.isfinite(upper) and not largest > upper:
                text = f"stops at {upper:g}: its input is at most {largest:.2g}"
            elif math.isfinite(lower) and not smallest < lower:
                text = f"stops at {lower:g}: its input is at least {smallest:.2g}"
            if text:
                found[node.id] = BlindSpot(node.id, f"that {locate(node)} {text}")
    return found


def _reads_port(graph: Graph, node: Node) -> bool:
    return bool(node.inputs) and node.inputs[0] in {port.tensor for port in graph.inputs}


def _port_name(graph: Graph, tensor: str) -> str:
    return next(port.name for port in graph.inputs if port.tensor == tensor)


def _pads(node: Node) -> bool:
    return bool(np.any(np.asarray(node.hyper.get("padding") or 0) != 0))


def _has_border(array: Array) -> bool:
    """Return whether a value at an end of an axis, the batch left out, is not 0.

    An axis of three or fewer, the channels of an image, has no border.
    """
    for axis in range(1, array.ndim):
        if array.shape[axis] > 3:
            ends = np.take(array, (0, array.shape[axis] - 1), axis=axis)
            if np.any(ends != 0):
                return True
    return array.ndim < 3
