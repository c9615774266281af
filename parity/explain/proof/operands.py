"""Layers whose operands have fewer significant bits, as products in narrower formats read them."""

from __future__ import annotations

from functools import partial

from parity.explain.proof.layer import Change, Layer
from parity.numerics.rounding import round_to_bits


def operands_to_bits(bits: int) -> Change:
    """Return the change of a layer that rounds its input and its kernel to `bits`."""

    def change(layer: Layer) -> Layer:
        kernels = {role: v for role, v in layer.weights.items() if role == "kernel"}
        rounded = {role: round_to_bits(value, bits) for role, value in kernels.items()}
        return layer.weigh(**rounded).given(partial(round_to_bits, bits=bits))

    return change
