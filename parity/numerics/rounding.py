"""Rounding to fewer significant bits, as narrower formats do."""

from __future__ import annotations

from functools import partial

import numpy as np

from parity.explain.proof.layer import Array, Change, Layer


def to_bits(values: Array, bits: int) -> Array:
    """Round to `bits` significant bits, ties to even; the exponent's range stays float64's."""
    mantissa, exponent = np.frexp(values)
    scale = 2.0**bits
    return np.asarray(np.ldexp(np.rint(mantissa * scale) / scale, exponent))


def operands_to_bits(bits: int) -> Change:
    """A layer whose input and kernel are rounded so: what a product of fewer bits reads."""

    def change(layer: Layer) -> Layer:
        kernels = {role: v for role, v in layer.weights.items() if role == "kernel"}
        rounded = {role: to_bits(value, bits) for role, value in kernels.items()}
        return layer.weigh(**rounded).given(partial(to_bits, bits=bits))

    return change
