"""Attention: of queries over keys and values, and the layer that projects them first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.kind import Hyperparameter, Kind, Role

Array = NDArray[np.float64]


def _scaled_dot_product(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """softmax(q·kᵀ·scale + mask)·v over (..., T, C): Vaswani et al. (2017), section 3.2.1.

    The inputs are q, k, v and, if there is one, a mask that is added to the scores; a
    `boolean_mask` is not 0 where a query sees a key. With `causal`, none sees a later one.
    """
    query, key, value, *mask = inputs
    if hyper.get("time_before_heads"):
        turned = [each.swapaxes(-2, -3) for each in (query, key, value)]
        settings = {**hyper, "time_before_heads": False}
        return _scaled_dot_product([*turned, *mask], weights, settings).swapaxes(-2, -3)
    if hyper["grouped"]:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (np.repeat(each, repeats, axis=-3) for each in (key, value))
    scale = hyper.get("scale")
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.swapaxes(-1, -2) * scale
    if hyper["causal"]:
        scores = np.where(np.tri(*scores.shape[-2:]) != 0, scores, -np.inf)
    if mask and hyper["boolean_mask"]:
        scores = np.where(mask[0] != 0, scores, -np.inf)
    elif mask:
        scores = scores + mask[0]
    return _softmax(scores) @ value


def _softmax(scores: Array) -> Array:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _multi_head(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Multi-head attention over (N, T, C): Vaswani et al. (2017), section 3.2.2.

    The inputs are query, key, value and, if there is one, a mask that is added to the scores; a
    `boolean_mask` is not 0 where a query does not see a key, unlike that of
    `scaled_dot_product_attention`. The three projections are packed in one weight, or apart. With
    `time_major`, data is (T, N, C).
    """
    tensors = list(inputs[:3]) if len(inputs) >= 3 else [inputs[0]] * 3
    if hyper["time_major"]:
        tensors = [tensor.swapaxes(0, 1) for tensor in tensors]
    kernels, biases = _projections(weights)
    heads, width = int(hyper["heads"]), kernels[0].shape[0]
    parts = [
        (data @ kernel.T + bias).reshape(*data.shape[:2], heads, width // heads).swapaxes(1, 2)
        for data, kernel, bias in zip(tensors, kernels, biases, strict=True)
    ]
    mask = [each == 0 for each in inputs[3:]] if hyper["boolean_mask"] else inputs[3:]
    attended = _scaled_dot_product([*parts, *mask], {}, {**hyper, "grouped": False})
    batch, _, length, _ = attended.shape
    joined = attended.swapaxes(1, 2).reshape(batch, length, width)
    output = joined @ weights["output_kernel"].T + weights.get("output_bias", 0.0)
    return output.swapaxes(0, 1) if hyper["time_major"] else output


def _projections(weights: Mapping[str, Array]) -> tuple[list[Array], list[Any]]:
    """Return the kernels (O, I) and the biases of query, key and value."""
    if "packed_kernel" in weights:
        kernels = list(np.split(weights["packed_kernel"], 3))
    else:
        kernels = [weights[f"{name}_kernel"] for name in _PARTS]
    if "packed_bias" in weights:
        return kernels, list(np.split(weights["packed_bias"], 3))
    return kernels, [weights.get(f"{name}_bias", 0.0) for name in _PARTS]


_PARTS = ("query", "key", "value")
_KERNEL_AXES = "O I"
_MASKS = ("is_causal", "use_causal_mask", "attn_mask", "attention_mask", "mask")
_BOOLEAN = Hyperparameter("boolean_mask", False, optional=True)

KINDS = (
    Kind(
        "scaled_dot_product_attention",
        _scaled_dot_product,
        mixes_axes=True,
        own_axes=True,
        family="attention",
        ordered=True,
        landmark="product",
        phrase="attention",
        hyperparameters=(
            Hyperparameter(
                "causal", False, torch="is_causal", optional=True, call_arguments=_MASKS
            ),
            # By default 1/√(length of a query).
            Hyperparameter("scale", optional=True, convert=float),
            # Whether several heads of the queries share one of the keys.
            Hyperparameter("grouped", False, optional=True),
            # Whether tensors are (N, T, heads, C) instead of (N, heads, T, C).
            Hyperparameter("time_before_heads", False, optional=True),
            _BOOLEAN,
        ),
        torch_functions=("scaled_dot_product_attention",),
        joins_branches=True,
    ),
    Kind(
        "multi_head_attention",
        _multi_head,
        mixes_axes=True,
        phrase="multi-head attention",
        # The packed ones hold those of query, key and value one behind the other. Keras's have the
        # axes of the heads apart: (I, heads, O), and (heads, I, O) for the output.
        roles=(
            Role("packed_kernel", "", "in_proj_weight", _KERNEL_AXES),
            Role("packed_bias", "", "in_proj_bias"),
            Role("query_kernel", "query/kernel", "q_proj_weight", _KERNEL_AXES),
            Role("query_bias", "query/bias", ""),
            Role("key_kernel", "key/kernel", "k_proj_weight", _KERNEL_AXES),
            Role("key_bias", "key/bias", ""),
            Role("value_kernel", "value/kernel", "v_proj_weight", _KERNEL_AXES),
            Role("value_bias", "value/bias", ""),
            Role("output_kernel", "attention_output/kernel", "out_proj.weight", _KERNEL_AXES),
            Role("output_bias", "attention_output/bias", "out_proj.bias"),
        ),
        hyperparameters=(
            Hyperparameter("heads", torch="num_heads", optional=True),
            Hyperparameter("causal", False, optional=True, call_arguments=_MASKS),
            Hyperparameter("time_major", False, optional=True),
            _BOOLEAN,
        ),
        torch_functions=("multi_head_attention_forward",),
        joins_branches=True,
    ),
)
