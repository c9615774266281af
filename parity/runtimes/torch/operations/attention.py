"""Readers of attention."""

from __future__ import annotations

from typing import Any

import torch

from parity.network.graph import OPAQUE
from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.operations.reading import Arguments, Operation, register_reader


@register_reader("scaled_dot_product_attention")
def _scaled_dot_product(name: str, given: Arguments) -> Operation:
    mask, scale = given.get("attn_mask"), given.get("scale")
    hyper: dict[str, Any] = {
        "causal": bool(given.get("is_causal", False)),
        "grouped": bool(given.get("enable_gqa", False)),
    }
    operands = [given["query"], given["key"], given["value"]]
    if scale is not None:
        hyper["scale"] = float(scale)
    if mask is not None:
        operands.append(mask)
        hyper["boolean_mask"] = mask.tensor.dtype == torch.bool
    return Operation(name, hyper, operands)


_PROJECTIONS = {
    "in_proj_weight": "packed_kernel",
    "in_proj_bias": "packed_bias",
    "q_proj_weight": "query_kernel",
    "k_proj_weight": "key_kernel",
    "v_proj_weight": "value_kernel",
    "out_proj_weight": "output_kernel",
    "out_proj_bias": "output_bias",
}


@register_reader("multi_head_attention_forward")
def _multi_head(name: str, given: Arguments) -> Operation:
    weights = {
        role: given[argument]
        for argument, role in _PROJECTIONS.items()
        if isinstance(given.get(argument), Operand)
    }
    operands = [given["query"], given["key"], given["value"]]
    mask, ignored = given.get("attn_mask"), given.get("key_padding_mask")
    hyper: dict[str, Any] = {
        "heads": int(given["num_heads"]),
        # With a mask, `is_causal` says what the mask is.
        "causal": bool(given.get("is_causal", False)) and mask is None,
        "time_major": True,
    }
    if mask is not None:
        operands.append(mask)
        hyper["boolean_mask"] = mask.tensor.dtype == torch.bool
    if ignored is not None:
        operands.append(ignored)
    # What the kind's operator does not have.
    other = given.get("bias_k") is not None or given.get("add_zero_attn") or ignored is not None
    axes = "T N C" if operands[0].tensor.ndim == 3 else ""
    other = other or not axes
    return Operation(
        OPAQUE if other else "multi_head_attention", hyper, operands, weights, axes, axes
    )
