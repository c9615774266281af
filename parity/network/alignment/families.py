"""The families of kinds that a pairing treats as one, and the kinds that compute nothing."""

from __future__ import annotations

import functools

from parity.network import kinds
from parity.network.graph import Node

LINEAR = "linear"
ACTIVATION = "activation"
AVERAGE = "average"
PRODUCT = "product"
ATTENTION = "attention"
INPUT = "input"
OUTPUT = "output"

PASSED = frozenset(
    {
        "cast", "contiguous", "detach", "dropout", "expand", "expand_dims", "flatten", "gather",
        "identity", "permute", "reshape", "slice", "split", "squeeze", "stochastic_depth", "tile",
        "transpose", "unsqueeze", "view",
    }
)  # fmt: skip
"""Kinds that move values and compute none: a pairing looks through them."""

_ACTIVATIONS = frozenset(
    {
        "celu", "clip", "elu", "exp", "gelu", "hard_sigmoid", "hard_swish", "hard_tanh",
        "leaky_relu", "log_sigmoid", "log_softmax", "mish", "prelu", "quick_gelu", "relu", "relu6",
        "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "swish", "tanh",
    }
)  # fmt: skip

_FAMILIES = {
    "conv": LINEAR,
    "depthwise_conv": LINEAR,
    "dense": LINEAR,
    "global_avg_pool": AVERAGE,
    "reduce_mean": AVERAGE,
    "adaptive_avg_pool": AVERAGE,
    "matmul": PRODUCT,
    "einsum": PRODUCT,
    "scaled_dot_product_attention": ATTENTION,
}

ORDERED_JOINS = frozenset(
    {"concat", "stack", "sub", "div", "pow", "where", PRODUCT, ATTENTION, "floor_div", "mod"}
)
"""Families for which the order of the inputs matters."""

CONTEXT = {
    "max_pool": "max",
    "avg_pool": "average",
    AVERAGE: "whole",
    "global_max_pool": "whole max",
    "reduce_max": "whole max",
    "concat": "concat",
    PRODUCT: "product",
    ATTENTION: "product",
    "upsample": "upsample",
}
"""The weightless families that tell places apart, and that both models write alike."""


def is_passed(node: Node) -> bool:
    """Return whether a node only moves values, so that a pairing looks through it."""
    if node.kind in PASSED:
        return True
    kind = kinds.find(node.kind)
    return kind is not None and kind.passive


@functools.cache
def find_family(kind: str) -> str:
    """Return the family of a kind: kinds of one family can be partners."""
    if kind in _FAMILIES:
        return _FAMILIES[kind]
    found = kinds.find(kind)
    if kind in _ACTIVATIONS or (found is not None and found.activation):
        return ACTIVATION
    return kind
