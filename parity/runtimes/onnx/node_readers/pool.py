"""Readers of pools."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.conv import window
from parity.runtimes.onnx.node_readers.reading import NodeReading, NodeView, register_reader


@register_reader("MaxPool", "AveragePool")
def _read_pool(view: NodeView) -> NodeReading:
    hyperparameters = window(view, view.get("kernel_shape"), view.shape(0)[2:])
    hyperparameters["ceil"] = bool(view.get("ceil_mode", 0))
    if view.operation == "MaxPool":
        return NodeReading("max_pool", hyperparameters)
    dilation = hyperparameters.pop("dilation")
    hyperparameters["count_padding"] = bool(view.get("count_include_pad", 0))
    return NodeReading("avg_pool" if set(dilation) == {1} else OPAQUE, hyperparameters)


@register_reader("GlobalAveragePool", "GlobalMaxPool")
def _read_global_pool(view: NodeView) -> NodeReading:
    kind = "global_avg_pool" if view.operation == "GlobalAveragePool" else "global_max_pool"
    return NodeReading(kind, {"size": [1] * max(len(view.shape(0)) - 2, 1)})
