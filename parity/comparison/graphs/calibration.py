"""Running statistics for random weights, measured on the comparison's input."""

from __future__ import annotations

from typing import Any

from parity.network.alignment import infer_axes
from parity.network.axes import split_words
from parity.network.graph import Graph


def find_norms(graph: Graph) -> list[dict[str, Any]]:
    """Return the batch norms of a graph as the operation `calibrate_norms` takes them."""
    axes = infer_axes(graph)
    made = {tensor for node in graph.nodes for tensor in node.outputs}
    found = []
    for node in graph.nodes:
        roles = {each.role: each for each in node.parameters}
        if node.kind != "batch_norm" or not {"mean", "variance"} <= roles.keys():
            continue
        # A norm that reads the model's input keeps its mean of 0 and variance of 1.
        if not node.inputs or node.inputs[0] not in made:
            continue
        order = split_words(axes.get(node.inputs[0], ""))
        shape = graph.tensors[node.inputs[0]].shape
        length = roles["mean"].shape[0]
        axis = order.index("C") if "C" in order else _find_axis(shape, length)
        found.append(
            {
                "input": node.inputs[0],
                "output": node.outputs[0],
                "axis": axis,
                "epsilon": float(node.hyper.get("epsilon", 1e-5)),
                **{role: each.name for role, each in roles.items()},
            }
        )
    return found


def _find_axis(shape: tuple[int, ...], length: int) -> int:
    """Return the axis of the channels by its length: the second one before the last."""
    candidates = [axis for axis in (1, len(shape) - 1) if shape[axis] == length]
    return candidates[0] if candidates else -1
