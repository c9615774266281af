"""Readers of attention."""

from __future__ import annotations

from typing import Any

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import (
    NodeReading,
    NodeView,
    list_present_roles,
    register_reader,
)


@register_reader("Attention")
def _read_attention(view: NodeView) -> NodeReading:
    """ONNX's own; ONNX Runtime's holds the projections too, and no other framework has it."""
    if view.domain:
        return NodeReading(
            OPAQUE,
            {"heads": view.get("num_heads")},
            list_present_roles(view),
            {"packed_kernel": "I O"},
        )
    hyperparameters: dict[str, Any] = {"causal": bool(view.get("is_causal", 0))}
    if view.get("scale") is not None:
        hyperparameters["scale"] = view.number("scale", 0.0)
    kv_heads, heads = view.get("kv_num_heads"), view.get("q_num_heads")
    if len(view.shape(0)) == 4:
        heads, kv_heads = view.shape(0)[1], view.shape(1)[1]
    hyperparameters["grouped"] = heads != kv_heads
    if view.number("softcap", 0.0):
        return NodeReading(OPAQUE, hyperparameters)
    return NodeReading("scaled_dot_product_attention", hyperparameters)


@register_reader("MultiHeadAttention")
def _read_multi_head_attention(view: NodeView) -> NodeReading:
    hyperparameters: dict[str, Any] = {"causal": bool(view.get("unidirectional", 0))}
    if view.get("scale") is not None:
        hyperparameters["scale"] = view.number("scale", 0.0)
    return NodeReading(
        "scaled_dot_product_attention" if not view.has(3) else OPAQUE, hyperparameters
    )
