"""Recognition of batch-norm in the multiplications and additions that TensorFlow traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import NodeProto, TensorProto, numpy_helper


@dataclass(frozen=True)
class BatchNorm:
    """Names of gamma, beta, mean and variance, in ONNX's order, and epsilon."""

    weights: tuple[str, str, str, str]
    epsilon: float


def match(
    scale: str,
    scaled: str,
    addition: NodeProto,
    *,
    producer: Mapping[str, NodeProto],
    initializers: Mapping[str, TensorProto],
) -> BatchNorm | None:
    """Match scaled = x * scale, addition = scaled + shift, as tf.nn.batch_normalization has them:

    scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale. In one operator the four
    weights keep every bit.
    """
    if addition.op_type != "Add":
        return None
    matched = _match_scale(scale, producer, initializers)
    others = [name for name in addition.input if name != scaled]
    shift = producer.get(others[0]) if len(others) == 1 else None
    if matched is None or shift is None or shift.op_type != "Sub":
        return None
    product = producer.get(shift.input[1])
    if product is None or product.op_type != "Mul" or scale not in product.input:
        return None
    means = [name for name in product.input if name != scale]
    if len(means) != 1:
        return None
    gamma, variance, epsilon = matched
    return BatchNorm((gamma, shift.input[0], means[0], variance), epsilon)


def _match_scale(
    scale: str, producer: Mapping[str, NodeProto], initializers: Mapping[str, TensorProto]
) -> tuple[str, str, float] | None:
    """Match gamma * (1 / sqrt(variance + epsilon)); return gamma, variance and epsilon."""
    product = producer.get(scale)
    if product is None or product.op_type != "Mul":
        return None
    for inverse, gamma in (product.input, reversed(product.input)):
        names = [inverse]
        for op_type in ("Reciprocal", "Sqrt", "Add"):
            step = producer.get(names[0])
            if step is None or step.op_type != op_type:
                break
            names = list(step.input)
        else:
            variance, epsilon = sorted(names, key=lambda name: name in initializers)
            if epsilon in initializers and variance not in initializers:
                value = numpy_helper.to_array(initializers[epsilon])
                if value.size == 1:
                    return gamma, variance, float(value.reshape(()))
    return None
