"""Readers of reductions and running sums."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeView, Reading, reads

_REDUCTIONS = {
    "ReduceMean": "reduce_mean", "ReduceSum": "reduce_sum", "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min", "ReduceL2": "reduce_l2",
}  # fmt: skip


@reads(*_REDUCTIONS)
def _read_reduction(view: NodeView) -> Reading:
    rank = len(view.shape(0))
    axes = view.integers(1, "axes")
    if not axes and view.get("noop_with_empty_axes", 0):
        return Reading("identity", consumed=frozenset({1}))
    every = sorted(axis % rank for axis in axes) if axes else list(range(rank))
    hyper = {"axes": every, "keepdims": bool(view.get("keepdims", 1))}
    return Reading(_REDUCTIONS[view.operation], hyper, consumed=frozenset({1}))


@reads("ArgMax")
def _read_argmax(view: NodeView) -> Reading:
    axis = int(view.get("axis", 0)) % max(len(view.shape(0)), 1)
    return Reading("argmax", {"axis": axis, "keepdims": bool(view.get("keepdims", 1))})


@reads("CumSum")
def _read_cumsum(view: NodeView) -> Reading:
    axis = view.integers(1, "axis")
    if axis is None or view.get("exclusive", 0) or view.get("reverse", 0):
        return Reading(OPAQUE)
    return Reading("cumsum", {"axis": axis[0]}, consumed=frozenset({1}))
