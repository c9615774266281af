"""Readers of quantisation and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeReading, NodeView, register_reader


@register_reader("QuantizeLinear", "DequantizeLinear")
def _read_quantisation(view: NodeView) -> NodeReading:
    scale, zero = view.static(1), view.static(2)
    if scale is None:
        return NodeReading(OPAQUE)
    hyperparameters: dict[str, Any] = {
        "scale": scale.astype(np.float64).tolist(),
        "zero_point": 0 if zero is None else zero.astype(np.int64).tolist(),
    }
    if scale.ndim:
        hyperparameters["axis"] = int(view.get("axis", 1)) % max(len(view.shape(0)), 1)
    kind = "dequantize"
    if view.operation == "QuantizeLinear":
        kind = "quantize"
        hyperparameters["dtype"] = "uint8" if zero is None else str(zero.dtype)
    return NodeReading(kind, hyperparameters, setting_inputs=frozenset({1, 2}))
