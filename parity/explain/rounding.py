"""Rounding to fewer significant bits, as narrower formats do."""

from __future__ import annotations

import numpy as np

from parity.explain.layer import Array


def to_bits(values: Array, bits: int) -> Array:
    """Round to `bits` significant bits, ties to even; the exponent's range stays float64's."""
    mantissa, exponent = np.frexp(values)
    scale = 2.0**bits
    return np.asarray(np.ldexp(np.rint(mantissa * scale) / scale, exponent))
