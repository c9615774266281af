"""Readers of quantisation and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeView, Reading, reads


@reads("QuantizeLinear", "DequantizeLinear")
def _read_quantisation(view: NodeView) -> Reading:
    scale, zero = view.static(1), view.static(2)
    if scale is None:
        return Reading(OPAQUE)
    hyper: dict[str, Any] = {
        "scale": scale.astype(np.float64).tolist(),
        "zero_point": 0 if zero is None else zero.astype(np.int64).tolist(),
    }
    if scale.ndim:
        hyper["axis"] = int(view.get("axis", 1)) % max(len(view.shape(0)), 1)
    kind = "dequantize"
    if view.operation == "QuantizeLinear":
        kind = "quantize"
        hyper["dtype"] = "uint8" if zero is None else str(zero.dtype)
    return Reading(kind, hyper, consumed=frozenset({1, 2}))
