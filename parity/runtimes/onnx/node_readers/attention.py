"""Readers of attention."""

from __future__ import annotations

from typing import Any

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeView, Reading, present_roles, reads


@reads("Attention")
def _read_attention(view: NodeView) -> Reading:
    """ONNX's own; ONNX Runtime's holds the projections too, and no other framework has it."""
    if view.domain:
        return Reading(OPAQUE, {"heads": view.get("num_heads")}, present_roles(view),
                       {"packed_kernel": "I O"})  # fmt: skip
    hyper: dict[str, Any] = {"causal": bool(view.get("is_causal", 0))}
    if view.get("scale") is not None:
        hyper["scale"] = view.number("scale", 0.0)
    kv_heads, heads = view.get("kv_num_heads"), view.get("q_num_heads")
    if len(view.shape(0)) == 4:
        heads, kv_heads = view.shape(0)[1], view.shape(1)[1]
    hyper["grouped"] = heads != kv_heads
    if view.number("softcap", 0.0):
        return Reading(OPAQUE, hyper)
    return Reading("scaled_dot_product_attention", hyper)


@reads("MultiHeadAttention")
def _read_runtime_attention(view: NodeView) -> Reading:
    hyper: dict[str, Any] = {"causal": bool(view.get("unidirectional", 0))}
    if view.get("scale") is not None:
        hyper["scale"] = view.number("scale", 0.0)
    return Reading("scaled_dot_product_attention" if not view.has(3) else OPAQUE, hyper)
