"""Rounding to fewer significant bits, as in narrower floating-point formats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def round_to_bits(values: Array, bits: int) -> Array:
    """Round to `bits` significant bits, ties to even, in float64.

    The exponent keeps the range of float64.
    """
    mantissa, exponent = np.frexp(values.astype(np.float64, copy=False))
    scale = 2.0**bits
    return np.asarray(np.ldexp(np.rint(mantissa * scale) / scale, exponent))


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Return the largest relative error of one rounding; 0 for integers and booleans."""
    return float(np.finfo(dtype).eps) / 2 if dtype.kind == "f" else 0.0
