"""Small cases of the operators that deployed files hold: recurrent, quantised, fused, indexing."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.runtimes.operator_cases import IMAGE, WAVE, Array, Case, X, case, drawn, ints, positive

MS = "com.microsoft"


def fused(op: str, *inputs: Any, **attributes: Any) -> Case:
    return case(op, *inputs, domain=MS, **attributes)


def whole(
    *shape: int, low: int = -20, high: int = 20, seed: int = 0, dtype: Any = np.int8
) -> Array:
    rng = np.random.default_rng((seed, *shape))
    return rng.integers(low, high, shape).astype(dtype)


def numbers(*values: float, dtype: Any = np.float64) -> Array:
    return np.array(values, dtype)


BYTES = whole(2, 3, 4, low=0, high=255, dtype=np.uint8)
PLANE = whole(1, 4, 6, 5, low=0, high=255, dtype=np.uint8)
ZERO, ZERO8 = np.array(120, np.uint8), np.array(0, np.int8)
SCALE = np.array(0.03125)

# Recurrent --------------------------------------------------------------------------------------

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6
SEQUENCE = drawn(STEPS, BATCH, INPUTS)


def recurrent(op: str, gates: int, directions: int = 1, *, more: tuple[Any, ...] = (),
              **attributes: Any) -> Case:  # fmt: skip
    kernel = 0.5 * drawn(directions, gates * HIDDEN, INPUTS)
    state = 0.5 * drawn(directions, gates * HIDDEN, HIDDEN)
    bias = drawn(directions, 2 * gates * HIDDEN)
    outputs = 3 if op == "LSTM" else 2
    return case(op, SEQUENCE, kernel, state, bias, *more, outputs=outputs, opset=14,
                hidden_size=HIDDEN, **attributes)  # fmt: skip


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
LENGTHS = np.array([5, 2, 4], np.int32)


def first_states(op: str, directions: int = 1) -> tuple[Any, ...]:
    count = 2 if op == "LSTM" else 1
    return tuple(drawn(directions, BATCH, HIDDEN, seed=seed) for seed in range(count))


# ONNX Runtime is asked: the reference evaluator ignores lengths, directions and peepholes.
RECURRENT = [
    each
    for op, gates in GATES.items()
    for each in (
        recurrent(op, gates),
        recurrent(op, gates, direction="reverse"),
        recurrent(op, gates, 2, direction="bidirectional"),
        recurrent(op, gates, more=(None, *first_states(op))),
        recurrent(op, gates, 2, more=(LENGTHS, *first_states(op, 2)), direction="bidirectional"),
        recurrent(op, gates, more=(LENGTHS,), direction="reverse"),
        recurrent(op, gates, clip=0.75),
    )
]
RECURRENT += [
    recurrent("GRU", 3, linear_before_reset=1),
    recurrent("GRU", 3, 2, linear_before_reset=1, direction="bidirectional"),
    recurrent("GRU", 3, activations=["HardSigmoid", "LeakyRelu"], activation_alpha=[0.25, 0.125],
              activation_beta=[0.5]),
    recurrent("RNN", 1, activations=["Relu"]),
    recurrent("LSTM", 4, activations=["Sigmoid", "Softsign", "Tanh"]),
    recurrent("LSTM", 4, input_forget=1),
    recurrent("LSTM", 4, more=(None, *first_states("LSTM"), drawn(1, 3 * HIDDEN))),
]  # fmt: skip

# Batch first: ONNX Runtime has no such kernel, the reference evaluator has.
BATCH_FIRST = [
    case(op, SEQUENCE.transpose(1, 0, 2), 0.5 * drawn(1, gates * HIDDEN, INPUTS),
         0.5 * drawn(1, gates * HIDDEN, HIDDEN), drawn(1, 2 * gates * HIDDEN), opset=14,
         outputs=2, hidden_size=HIDDEN, layout=1)
    for op, gates in GATES.items()
]  # fmt: skip

# Indexing ---------------------------------------------------------------------------------------

INDEXED = [
    case("GatherND", X, np.array([[0, 1], [1, -1]])),
    case("GatherND", X, np.array([[[0], [2]], [[1], [-1]]]), batch_dims=1),
    case("GatherND", X, np.array([[[0, 1, 2]], [[1, 0, -4]]])),
    case("ScatterND", X, np.array([[0], [1]]), drawn(2, 3, 4, seed=1)),
    case("ScatterND", X, np.array([[[0, -1]], [[1, 0]]]), drawn(2, 1, 4, seed=1)),
    *[
        case("ScatterND", X, np.array([[0, 1], [0, 1]]), drawn(2, 4, seed=1), reduction=reduction)
        for reduction in ("add", "mul", "max", "min")
    ],
    case("ScatterElements", X, np.array([[[0, -1]], [[2, 1]]]), drawn(2, 1, 2, seed=1), axis=1),
    *[
        case("ScatterElements", X, np.array([[[0, 0]], [[2, 2]]]), drawn(2, 1, 2, seed=1), axis=2,
             reduction=reduction)
        for reduction in ("add", "mul", "max", "min")
    ],
    case("OneHot", ints(1, 0, -1), np.array(3), np.array([0.0, 1.0])),
    case("OneHot", np.array([[1, 7], [0, 2]]), np.array(3), np.array([-1.0, 2.0]), axis=1),
    case("ReverseSequence", drawn(4, 3, 2), ints(4, 1, 3)),
    case("ReverseSequence", drawn(3, 4, 2), ints(4, 1, 3), batch_axis=0, time_axis=1),
    case("Compress", X, np.array([False, True, True]), axis=1),
    case("Compress", X, np.array([False, True, True])),
    case("EyeLike", drawn(3, 4), k=1),
    case("EyeLike", drawn(4, 3), k=-1, dtype=TensorProto.INT64),
    *[case(op, ints(12, 10), ints(10, 6)) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")],
    case("BitwiseNot", ints(12, -3)),
    case("IsInf", np.array([1.0, np.inf, -np.inf, np.nan]), opset=20),
    case("IsInf", np.array([1.0, np.inf, -np.inf, np.nan]), opset=20, detect_negative=0),
    case("Shrink", X, lambd=0.25, bias=0.125),
    case("Hardmax", X, axis=1),
]  # fmt: skip
# The reference evaluator computes these in float32, or not at all in float64.
INDEXED_BY_RUNTIME = [
    case("LRN", IMAGE, size=3, alpha=0.5, beta=0.75, bias=1.5),
    case("MeanVarianceNormalization", IMAGE),
    case("MeanVarianceNormalization", X, axes=[0, 2]),
    *[
        case(
            "GridSample",
            drawn(2, 3, 4, 5),
            1.2 * np.tanh(drawn(2, 3, 6, 2)),
            opset=20,
            mode=mode,
            padding_mode=padding,
            align_corners=align,
        )
        for mode in ("linear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for align in (0, 1)
    ],
    case("Scatter", X, np.array([[[0, -1]], [[2, 1]]]), drawn(2, 1, 2, seed=1), axis=1, opset=9),
    case("GridSample", drawn(2, 3, 4, 5), np.tanh(drawn(2, 3, 6, 2)), opset=20, mode="cubic"),
]

# Quantised --------------------------------------------------------------------------------------

QUANTISED = [
    case("QuantizeLinear", 2 * X, SCALE, ZERO, opset=13),
    case("QuantizeLinear", 2 * X, SCALE, opset=13),
    case("QuantizeLinear", 2 * X, SCALE, np.array(-3, np.int8), opset=13),
    case("QuantizeLinear", 2 * X, numbers(0.25, 0.5, 1.0), np.array([1, 2, 3], np.uint8), opset=13),
    case("QuantizeLinear", 2 * X, numbers(0.25, 0.5, 1.0, 0.125), whole(4), opset=13, axis=-1),
    case("QuantizeLinear", np.array([0.5, 1.5, 2.5, -0.5, 1e9, -1e9]), np.array(1.0), ZERO8,
         opset=13),
    case("QuantizeLinear", 2 * X, SCALE, np.array(500, np.uint16), opset=21),
    case("QuantizeLinear", drawn(2, 6), positive(2, 3), whole(2, 3), opset=21, axis=1,
         block_size=2),
    case("DequantizeLinear", BYTES, SCALE, ZERO, opset=21),
    case("DequantizeLinear", BYTES, SCALE, opset=21),
    case("DequantizeLinear", BYTES, numbers(0.25, 0.5, 1.0), np.array([1, 2, 3], np.uint8),
         opset=21),
    case("DequantizeLinear", whole(3, dtype=np.int32, high=9999), SCALE, opset=21),
    case("DequantizeLinear", whole(2, 6), positive(2, 3), whole(2, 3), opset=21, axis=1,
         block_size=2),
    case("MatMulInteger", whole(3, 4, dtype=np.uint8, low=0, high=255), whole(4, 5), ZERO, ZERO8,
         opset=10),
    case("MatMulInteger", whole(3, 4, dtype=np.uint8, low=0, high=255), whole(4, 5), opset=10),
    case("ConvInteger", PLANE, whole(3, 4, 3, 3, low=0, dtype=np.uint8), ZERO, opset=10,
         pads=[1, 1, 1, 1]),
    case("QLinearMatMul", whole(3, 4, dtype=np.uint8, low=0, high=255), SCALE, ZERO,
         whole(4, 5), np.array(0.0625), ZERO8, np.array(0.25), ZERO, opset=10),
]  # fmt: skip

KERNEL8 = whole(3, 4, 3, 3)
QUANTISED_BY_RUNTIME = [
    # The reference evaluator computes the scale in float32.
    case("DynamicQuantizeLinear", X, opset=11, outputs=3),
    case("DynamicQuantizeLinear", positive(2, 3), opset=11, outputs=3),
    case("QLinearConv", PLANE, SCALE, ZERO, KERNEL8, np.array(0.0625), ZERO8, np.array(0.5), ZERO,
         opset=10),
    case("QLinearConv", PLANE, SCALE, ZERO, KERNEL8, numbers(0.0625, 0.125, 0.25), whole(3, low=0,
         high=1), np.array(0.5), ZERO, whole(3, dtype=np.int32, low=-999, high=999), opset=10,
         pads=[1, 0, 1, 2], strides=[2, 1]),
    case("QLinearConv", PLANE, SCALE, ZERO, whole(4, 1, 3, 3), np.array(0.0625), ZERO8,
         np.array(0.5), ZERO, opset=10, group=4),
    case("MatMulInteger", whole(3, 4, dtype=np.uint8, low=0, high=255), whole(4, 5), ZERO,
         whole(5), opset=10),
    case("MaxPool", PLANE, opset=12, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
]  # fmt: skip

# ONNX Runtime's own -----------------------------------------------------------------------------

T, C, HEADS = 5, 8, 2
TOKENS = drawn(2, T, C)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
QUERY, KEY, VALUE = (drawn(2, T, C, seed=seed) for seed in range(3))

FUSED = [
    fused("FusedConv", IMAGE, drawn(6, 4, 3, 3), drawn(6), activation="Relu", pads=[1, 1, 1, 1]),
    fused("FusedConv", IMAGE, drawn(6, 4, 3, 3), activation="LeakyRelu", activation_params=[0.25]),
    fused("FusedConv", IMAGE, drawn(6, 4, 3, 3), drawn(6), activation="Clip",
          activation_params=[0.0, 6.0]),
    fused("FusedConv", IMAGE, drawn(6, 4, 3, 3), drawn(6), activation="HardSigmoid",
          activation_params=[0.25, 0.5]),
    fused("FusedConv", IMAGE, drawn(6, 4, 3, 3), drawn(6), drawn(2, 6, 5, 7), activation="Relu"),
    fused("FusedGemm", drawn(3, 4), drawn(4, 5), drawn(5), activation="Relu"),
    fused("FusedGemm", drawn(3, 4), drawn(5, 4), drawn(5), activation="LeakyRelu",
          activation_alpha=0.25, transB=1),
    fused("FusedMatMul", drawn(2, 3, 4), drawn(2, 4, 5), alpha=0.375),
    fused("FusedMatMul", drawn(2, 4, 3), drawn(2, 5, 4), transA=1, transB=1),
    fused("FusedMatMul", drawn(3, 2, 4), drawn(5, 2, 4), transBatchA=1, transBatchB=1, transB=1),
    fused("FusedMatMul", drawn(2, 3, 4, 5), drawn(3, 4, 5, 6), transBatchA=1),
    fused("TransposeMatMul", drawn(2, 3, 4), drawn(2, 5, 4), transB=1, alpha=0.5),
    fused("Gelu", X),
    fused("BiasGelu", X, drawn(4)),
    fused("FastGelu", X),
    fused("FastGelu", X, drawn(4)),
    fused("QuickGelu", X),
    fused("QuickGelu", X, alpha=1.0),
    fused("SkipLayerNormalization", TOKENS, drawn(2, T, C, seed=1), drawn(C), drawn(C, seed=1)),
    fused("SkipLayerNormalization", TOKENS, drawn(2, T, C, seed=1), drawn(C), drawn(C, seed=1),
          drawn(C, seed=2), epsilon=0.0078125),
    fused("SkipSimplifiedLayerNormalization", TOKENS, drawn(2, T, C, seed=1), drawn(C)),
    case("SimplifiedLayerNormalization", TOKENS, drawn(C), epsilon=0.0078125, opset=1),
    fused("QuantizeLinear", 2 * X, SCALE, ZERO),
    fused("DequantizeLinear", BYTES, SCALE, ZERO),
    fused("MatMulIntegerToFloat", whole(3, 4, dtype=np.uint8, low=0, high=255), whole(4, 5), SCALE,
          numbers(0.25, 0.5, 1.0, 2.0, 0.125), ZERO, whole(5), drawn(5)),
    fused("DynamicQuantizeMatMul", drawn(3, 4), whole(4, 5), np.array(0.0625), ZERO8, drawn(5)),
    fused("QGemm", whole(3, 4, dtype=np.uint8, low=0, high=255), SCALE, ZERO, whole(5, 4),
          np.array(0.0625), ZERO8, whole(5, dtype=np.int32, low=-99, high=99), np.array(0.25),
          ZERO, transB=1),
    fused("QGemm", whole(3, 4, dtype=np.uint8, low=0, high=255), SCALE, ZERO, whole(4, 5),
          np.array(0.0625), ZERO8, whole(5, dtype=np.int32, low=-99, high=99)),
    fused("QLinearAdd", BYTES, SCALE, ZERO, BYTES[::-1].copy(), np.array(0.0625), ZERO,
          np.array(0.125), ZERO),
    fused("QLinearMul", BYTES, SCALE, ZERO, BYTES[::-1].copy(), np.array(0.0625), ZERO,
          np.array(0.5), ZERO),
    fused("QLinearLeakyRelu", BYTES, SCALE, ZERO, np.array(0.0625), ZERO, alpha=0.25),
    fused("QLinearSigmoid", BYTES, SCALE, ZERO, np.array(1 / 256), np.array(0, np.uint8)),
    fused("QLinearAveragePool", PLANE, SCALE, ZERO, np.array(0.0625), ZERO, kernel_shape=[2, 2]),
    fused("QLinearGlobalAveragePool", PLANE, SCALE, ZERO, np.array(0.0625), ZERO),
    fused("QLinearConcat", np.array(0.0625), ZERO, BYTES, SCALE, ZERO, BYTES, np.array(0.125),
          ZERO, axis=1),
    fused("Attention", TOKENS, drawn(C, 3 * C), drawn(3 * C), num_heads=HEADS),
    fused("Attention", TOKENS, drawn(C, 3 * C), drawn(3 * C), MASK, num_heads=HEADS),
    fused("Attention", TOKENS, drawn(C, 3 * C), drawn(3 * C), np.array([5, 3], np.int32),
          num_heads=HEADS),
    fused("Attention", TOKENS, drawn(C, 3 * C), drawn(3 * C), None, None,
          drawn(2, HEADS, T, T, seed=3), num_heads=HEADS),
    fused("Attention", TOKENS, drawn(C, 3 * C), drawn(3 * C), num_heads=HEADS, unidirectional=1),
    fused("MultiHeadAttention", QUERY, KEY, VALUE, num_heads=HEADS),
    fused("MultiHeadAttention", QUERY, KEY, VALUE, drawn(3 * C), num_heads=HEADS, scale=0.25),
    fused("MultiHeadAttention", QUERY, KEY, VALUE, None, MASK, num_heads=HEADS),
    fused("MultiHeadAttention", QUERY, KEY, VALUE, None, None, drawn(2, HEADS, T, T, seed=3),
          num_heads=HEADS),
    fused("EmbedLayerNormalization", whole(2, T, low=0, high=9, dtype=np.int32),
          whole(2, T, low=0, high=2, dtype=np.int32), drawn(9, C), drawn(T, C), drawn(2, C),
          drawn(C), drawn(C, seed=1), MASK, outputs=2),
    fused("MatMulNBits", drawn(2, 3, 32), whole(5, 1, 16, low=0, high=255, dtype=np.uint8),
          positive(5, 1), N=5, K=32, bits=4, block_size=32),
    fused("MatMulNBits", drawn(2, 3, 32), whole(5, 2, 8, low=0, high=255, dtype=np.uint8),
          positive(5, 2), whole(5, 1, low=0, high=255, dtype=np.uint8), N=5, K=32, bits=4,
          block_size=16),
    fused("DynamicQuantizeLSTM", drawn(T, 1, 4), whole(1, 4, 24), whole(1, 6, 24),
          drawn(1, 48), None, None, None, None, numbers(0.03125), np.zeros(1, np.int8),
          numbers(0.03125), np.zeros(1, np.int8), hidden_size=6, outputs=3),
]  # fmt: skip

# Attention of ONNX's own domain: the reference evaluator is its specification.
HEADED = [drawn(2, 4, T, 3, seed=seed) for seed in range(3)]
FEW = [drawn(2, 2, T, 3, seed=seed) for seed in range(1, 3)]
ATTENTION = [
    case("Attention", *HEADED, opset=23),
    case("Attention", *HEADED, opset=23, is_causal=1, scale=0.25),
    case("Attention", *HEADED, np.tril(np.ones((T, T), bool)), opset=23),
    case("Attention", *HEADED, drawn(2, 4, T, T, seed=4), opset=23, softcap=2.0),
    # The first query may see nothing.
    case("Attention", *HEADED, np.tril(np.ones((T, T), bool), -1), opset=23),
    case("Attention", *HEADED, opset=23, outputs=4, qk_matmul_output_mode=3),
    case("Attention", HEADED[0], *FEW, opset=23),
    case("Attention", QUERY, KEY, VALUE, opset=23, q_num_heads=2, kv_num_heads=2),
    case("Attention", *HEADED, None, drawn(2, 4, 2, 3), drawn(2, 4, 2, 3, seed=1), opset=23,
         outputs=3),
]  # fmt: skip

BY_REFERENCE = [*BATCH_FIRST, *INDEXED, *QUANTISED, *ATTENTION]
BY_RUNTIME = [*ATTENTION, *RECURRENT, *INDEXED_BY_RUNTIME, *QUANTISED_BY_RUNTIME, *FUSED]

__all__ = ["BY_REFERENCE", "BY_RUNTIME", "MS", "WAVE"]
