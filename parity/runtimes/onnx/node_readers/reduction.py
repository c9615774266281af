"""Readers of reductions and running sums."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeReading, NodeView, register_reader

_REDUCTIONS = {
    "ReduceMean": "reduce_mean", "ReduceSum": "reduce_sum", "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min", "ReduceL2": "reduce_l2",
}  # fmt: skip


@register_reader(*_REDUCTIONS)
def _read_reduction(view: NodeView) -> NodeReading:
    rank = len(view.shape(0))
    axes = view.integers(1, "axes")
    if not axes and view.get("noop_with_empty_axes", 0):
        return NodeReading("identity", setting_inputs=frozenset({1}))
    every = sorted(axis % rank for axis in axes) if axes else list(range(rank))
    hyperparameters = {"axes": every, "keepdims": bool(view.get("keepdims", 1))}
    return NodeReading(_REDUCTIONS[view.operation], hyperparameters, setting_inputs=frozenset({1}))


@register_reader("ArgMax")
def _read_argmax(view: NodeView) -> NodeReading:
    axis = int(view.get("axis", 0)) % max(len(view.shape(0)), 1)
    return NodeReading("argmax", {"axis": axis, "keepdims": bool(view.get("keepdims", 1))})


@register_reader("CumSum")
def _read_cumsum(view: NodeView) -> NodeReading:
    axis = view.integers(1, "axis")
    if axis is None or view.get("exclusive", 0) or view.get("reverse", 0):
        return NodeReading(OPAQUE)
    return NodeReading("cumsum", {"axis": axis[0]}, setting_inputs=frozenset({1}))
