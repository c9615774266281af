"""Readers of pools."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.conv import window
from parity.runtimes.onnx.node_readers.reading import NodeView, Reading, reads


@reads("MaxPool", "AveragePool")
def _read_pool(view: NodeView) -> Reading:
    hyper = window(view, view.get("kernel_shape"), view.shape(0)[2:])
    hyper["ceil"] = bool(view.get("ceil_mode", 0))
    if view.operation == "MaxPool":
        return Reading("max_pool", hyper)
    dilation = hyper.pop("dilation")
    hyper["count_padding"] = bool(view.get("count_include_pad", 0))
    return Reading("avg_pool" if set(dilation) == {1} else OPAQUE, hyper)


@reads("GlobalAveragePool", "GlobalMaxPool")
def _read_global_pool(view: NodeView) -> Reading:
    kind = "global_avg_pool" if view.operation == "GlobalAveragePool" else "global_max_pool"
    return Reading(kind, {"size": [1] * max(len(view.shape(0)) - 2, 1)})
