"""Fused operators in PyTorch: attention, and what ONNX Runtime's optimiser writes.

Those of the domain `com.microsoft` are defined on the page "Contrib Operators" of ONNX Runtime's
documentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from parity.runtimes.torch.onnx_operators import (
    OPERATORS,
    RUNTIME_DOMAIN,
    Call,
    Unsupported,
    operator,
)
from parity.runtimes.torch.onnx_window_operators import convolve, layer_norm, standardise

_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "Relu": torch.relu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "LeakyRelu": lambda x, alpha=0.01: torch.where(x >= 0, x, alpha * x),
    "Clip": lambda x, low=-math.inf, high=math.inf: x.clamp(low, high),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clamp(0, 1),
}


def _activate(call: Call, x: Tensor) -> Tensor:
    """Apply the activation that a node states, if it states one."""
    name = call.get("activation", "")
    if not name:
        return x
    if name not in _ACTIVATIONS:
        raise Unsupported(f"the activation {name}")
    numbers = list(call.get("activation_params", []))
    # FusedGemm and older files have alpha and beta instead.
    for key in ("activation_alpha", "activation_beta"):
        if not numbers or len(numbers) == 1:
            numbers += [call.get(key)] if call.get(key) is not None else []
    return _ACTIVATIONS[name](x, *(call.restore(number) for number in numbers))


@operator("FusedConv", domain=RUNTIME_DOMAIN)
def convolve_fused(
    call: Call, x: Tensor, kernel: Tensor, bias: Tensor | None = None, added: Tensor | None = None
) -> Tensor:
    output = convolve(call, x, kernel, bias)
    return _activate(call, output if added is None else output + added)  # type: ignore[operator, arg-type]


@operator("FusedGemm", domain=RUNTIME_DOMAIN)
def gemm_fused(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    return _activate(call, OPERATORS["Gemm"](call, a, b, c))  # type: ignore[arg-type]


@operator("FusedMatMul", "TransposeMatMul", domain=RUNTIME_DOMAIN)
def multiply_fused(call: Call, a: Tensor, b: Tensor) -> Tensor:
    # The first axis is then that of the rows, and the batch follows it.
    a = a.movedim(0, -2) if call.get("transBatchA", 0) else a
    b = b.movedim(0, -2) if call.get("transBatchB", 0) else b
    a = a.mT if call.get("transA", 0) and a.ndim > 1 else a
    b = b.mT if call.get("transB", 0) and b.ndim > 1 else b
    return call.float_attribute("alpha", 1.0) * (a @ b)


def _exact_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.special.erf(x / math.sqrt(2)))


@operator("Gelu", domain=RUNTIME_DOMAIN)
def gelu(call: Call, x: Tensor) -> Tensor:
    return _exact_gelu(x)


@operator("BiasGelu", domain=RUNTIME_DOMAIN)
def bias_gelu(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    return _exact_gelu(x + bias)


@operator("FastGelu", domain=RUNTIME_DOMAIN)
def fast_gelu(call: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x if bias is None else x + bias
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@operator("QuickGelu", domain=RUNTIME_DOMAIN)
def quick_gelu(call: Call, x: Tensor) -> Tensor:
    return x * torch.sigmoid(call.float_attribute("alpha", 1.702) * x)


def _rms_norm(call: Call, x: Tensor, scale: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    axes = tuple(range(call.get("axis", -1) % x.ndim, x.ndim))
    inverse = (x.square().mean(axes, keepdim=True) + epsilon).rsqrt()
    return x * inverse * scale, inverse


# ONNX Runtime registers this one in ONNX's own domain.
@operator("SimplifiedLayerNormalization")
@operator("SimplifiedLayerNormalization", domain=RUNTIME_DOMAIN)
def simplified_layer_norm(call: Call, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return _rms_norm(call, x, scale, call.float_attribute("epsilon", 1e-5))


operator("LayerNormalization", domain=RUNTIME_DOMAIN)(layer_norm)


@operator("SkipLayerNormalization", domain=RUNTIME_DOMAIN)
def skip_layer_norm(
    call: Call, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    total = x + skip if bias is None else x + skip + bias
    unit, mean, inverse = standardise(total, (-1,), call.float_attribute("epsilon", 1e-12))
    return unit * gamma + (0 if beta is None else beta), mean, inverse, total


@operator("SkipSimplifiedLayerNormalization", domain=RUNTIME_DOMAIN)
def skip_simplified_layer_norm(
    call: Call, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, ...]:
    total = x + skip if bias is None else x + skip + bias
    output, inverse = _rms_norm(call, total, gamma, call.float_attribute("epsilon", 1e-12))
    return output, inverse, inverse, total


@operator("EmbedLayerNormalization", domain=RUNTIME_DOMAIN)
def embed_layer_norm(
    call: Call, ids: Tensor, segments: Tensor | None, words: Tensor, positions: Tensor,
    segment_table: Tensor | None, gamma: Tensor, beta: Tensor, mask: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    where = torch.arange(ids.shape[1]) if position_ids is None else position_ids.to(torch.int64)
    total = words[ids.to(torch.int64)] + positions[where]
    if segments is not None and segment_table is not None:
        total = total + segment_table[segments.to(torch.int64)]
    unit, _, _ = standardise(total, (-1,), call.float_attribute("epsilon", 1e-12))
    if call.get("mask_index_type", 0):
        raise Unsupported("this form of the mask's index")
    count = torch.zeros(ids.shape[0]) if mask is None else mask.sum(-1)
    return unit * gamma + beta, count.to(torch.int32), total


@operator("GroupNorm", domain=RUNTIME_DOMAIN)
def group_norm(call: Call, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    last = bool(call.get("channels_last", 1))
    x = x.movedim(-1, 1) if last else x
    parts = x.reshape(x.shape[0], call.get("groups"), -1)
    unit, _, _ = standardise(parts, (2,), call.float_attribute("epsilon", 1e-5))
    shape = (-1, *[1] * (x.ndim - 2))
    output = unit.reshape(x.shape) * gamma.reshape(shape) + beta.reshape(shape)
    output = output * torch.sigmoid(output) if call.get("activation", 0) else output
    return output.movedim(1, -1) if last else output


# Attention ---------------------------------------------------------------------------------------


def _heads(x: Tensor, count: int) -> Tensor:
    """Return (N, T, H·D) as (N, H, T, D); a tensor with four axes is that already."""
    if x.ndim == 4:
        return x
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _causal(queries: int, keys: int, offset: int) -> Tensor:
    """Return whether each query may not see a key; query 0 is at the position `offset`."""
    return torch.arange(keys) > torch.arange(queries).reshape(-1, 1) + offset


@operator("Attention")
def attend(
    call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None,
    past_key: Tensor | None = None, past_value: Tensor | None = None,
    valid_lengths: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """ONNX's own operator (opset 23)."""
    packed = q.ndim == 3
    if packed:
        q_heads, kv_heads = call.get("q_num_heads"), call.get("kv_num_heads")
        q, k, v = _heads(q, q_heads), _heads(k, kv_heads), _heads(v, kv_heads)
    k = k if past_key is None else torch.cat([past_key, k], dim=2)
    v = v if past_value is None else torch.cat([past_value, v], dim=2)
    if valid_lengths is not None:
        raise Unsupported("lengths of padded keys")
    present = k, v
    if q.shape[1] != k.shape[1]:
        k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for each in (k, v))
    if max(call.get("left_window_size", -1), call.get("right_window_size", -1)) >= 0:
        raise Unsupported("a sliding window")
    mode, cap = call.get("qk_matmul_output_mode", 0), call.float_attribute("softcap", 0.0)
    if call.used_outputs > 3 and (cap or mode not in (0, 3)):
        raise Unsupported("this stage of the scores as an output")
    scale = call.float_attribute("scale", 0.0) or 1 / math.sqrt(q.shape[-1])
    # The operator multiplies both sides by the root of the scale; in float64 that is the same.
    scores = scale * (q @ k.mT)
    # Before the mask: a masked score of -cap would be seen.
    capped = cap * torch.tanh(scores / cap) if cap else scores
    bias = scores.new_zeros(q.shape[2], k.shape[2])
    if call.get("is_causal", 0):
        past = 0 if past_key is None else past_key.shape[2]
        bias = bias.masked_fill(_causal(q.shape[2], k.shape[2], past), -math.inf)
    if mask is not None:
        additive = torch.where(mask, 0.0, -math.inf) if mask.dtype == torch.bool else mask
        missing = k.shape[2] - mask.shape[-1]
        bias = bias + functional.pad(additive.to(bias.dtype), (0, missing), value=-math.inf)
    weights = torch.softmax(capped + bias, dim=-1)
    # A query that may see no key gets zeros.
    blind = torch.isneginf(bias.amax(-1, keepdim=True))
    weights = torch.where(blind, torch.zeros_like(weights), weights)
    output = weights @ v
    return _join_heads(output) if packed else output, *present, weights if mode == 3 else scores


def _mask_scores(scores: Tensor, mask: Tensor | None, filter_value: float, causal: bool) -> Tensor:
    """Add `filter_value` where a key is masked: a mask (N, keys), (N, T, keys) or (N, 1, T, keys),
    1 where the key is seen, or the number of valid keys of each sequence (N)."""
    keys = scores.shape[-1]
    if causal:
        hidden = _causal(scores.shape[-2], keys, keys - scores.shape[-2])
        scores = scores.masked_fill(hidden, filter_value)
    if mask is None:
        return scores
    batch = scores.shape[0]
    if mask.ndim == 1 and mask.numel() == batch:
        mask = (torch.arange(keys) < mask.reshape(-1, 1)).to(torch.int32)
    if mask.ndim == 2 and mask.shape == (batch, keys):
        mask = mask[:, None, None, :]
    elif mask.ndim == 3:
        mask = mask[:, None]
    elif mask.ndim != 4:
        raise Unsupported(f"a mask of the shape {tuple(mask.shape)}")
    return scores + (1 - mask.to(scores.dtype)) * filter_value


@operator("Attention", domain=RUNTIME_DOMAIN)
def attend_packed(
    call: Call, x: Tensor, kernel: Tensor, bias: Tensor | None = None, mask: Tensor | None = None,
    past: Tensor | None = None, added: Tensor | None = None, past_length: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """ONNX Runtime's: the projection of q, k and v is part of it."""
    if call.get("do_rotary", 0) or past_length is not None:
        raise Unsupported("rotary embeddings, or a shared buffer")
    sizes = call.get("qkv_hidden_sizes") or [kernel.shape[1] // 3] * 3
    projected = x @ kernel if bias is None else x @ kernel + bias
    q, k, v = (_heads(part, call.get("num_heads")) for part in projected.split(sizes, dim=-1))
    if past is not None:
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    output = _attend_heads(call, q, k, v, mask, added, bool(call.get("unidirectional", 0)))
    return output, torch.stack([k, v])


def _attend_heads(
    call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, added: Tensor | None,
    causal: bool,
) -> Tensor:  # fmt: skip
    scale = call.float_attribute("scale", 0.0) or 1 / math.sqrt(q.shape[-1])
    scores = scale * (q @ k.mT)
    scores = _mask_scores(scores, mask, call.float_attribute("mask_filter_value", -1e4), causal)
    scores = scores if added is None else scores + added
    return _join_heads(torch.softmax(scores, dim=-1) @ v)


@operator("MultiHeadAttention", domain=RUNTIME_DOMAIN)
def attend_many(
    call: Call, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,
    bias: Tensor | None = None, mask: Tensor | None = None, added: Tensor | None = None,
    past_key: Tensor | None = None, past_value: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    heads = call.get("num_heads")
    if query.ndim == 5:
        query, key, value = (part.flatten(2) for part in query.unbind(3))
    elif key is not None and key.ndim == 5:
        key, value = (part.flatten(2) for part in key.unbind(3))
    if key is None or value is None:
        raise Unsupported("queries without keys and values")
    if bias is not None:
        sizes = [query.shape[-1], key.shape[-1] if key.ndim == 3 else query.shape[-1]]
        to_q, to_k, to_v = bias.split([*sizes, bias.numel() - sum(sizes)])
        query = query + to_q
        key = key + to_k if key.ndim == 3 else key
        value = value + to_v if value.ndim == 3 else value
    q, k, v = (_heads(each, heads) for each in (query, key, value))
    k = k if past_key is None else torch.cat([past_key, k], dim=2)
    v = v if past_value is None else torch.cat([past_value, v], dim=2)
    causal = bool(call.get("unidirectional", 0))
    return _attend_heads(call, q, k, v, mask, added, causal), k, v
