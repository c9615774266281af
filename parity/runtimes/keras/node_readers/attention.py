"""Readers of attention."""

from __future__ import annotations

from typing import Any

from parity.runtimes.keras.events import Event, Operand
from parity.runtimes.keras.node_readers.reading import NodeReading, register_reader


@register_reader("dot_product_attention")
def _read_attention(event: Event) -> NodeReading | None:
    """Keras's attention over (N, T, heads, C)."""
    given = event.arguments
    hyperparameters: dict[str, Any] = {
        "causal": bool(given["is_causal"]),
        "time_before_heads": True,
    }
    scale = given["scale"]
    scale = scale.value if isinstance(scale, Operand) else scale
    if scale is not None:
        hyperparameters["scale"] = float(scale)
    query, key, mask = given["query"], given["key"], given["mask"]
    if given["bias"] is not None and mask is not None:
        return None
    if mask is not None:
        hyperparameters["boolean_mask"] = True
    hyperparameters["grouped"] = query.shape[2] != key.shape[2]
    return NodeReading("scaled_dot_product_attention", hyperparameters)
