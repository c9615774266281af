"""The change of a layer to operands with fewer significant bits, as in TF32 and bfloat16."""

from __future__ import annotations

from functools import partial

from parity.explain.proof.layer import Layer, LayerChange
from parity.numerics.rounding import round_to_bits


def round_operands(bits: int) -> LayerChange:
    """Return the change that rounds the first input and the kernel to `bits` significant bits."""

    def change(layer: Layer) -> Layer:
        kernels = {role: v for role, v in layer.weights.items() if role == "kernel"}
        rounded = {role: round_to_bits(value, bits) for role, value in kernels.items()}
        return layer.with_weights(**rounded).with_input_transform(partial(round_to_bits, bits=bits))

    return change
