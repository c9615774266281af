"""The moments of a weight, by which equal weights are found whatever their axes are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Moments = tuple[float, float, float, float]
"""The sum, the sum of squares, the smallest and the largest value."""

_CHUNK = 1 << 16
"""As many values are converted to float64 at a time: they stay in the processor's cache."""


def moments_of(values: NDArray[Any]) -> Moments | None:
    """Return the moments in float64; None for an empty array and for complex numbers."""
    if values.size == 0 or values.dtype.kind == "c":
        return None
    flat = np.ascontiguousarray(values).reshape(-1)
    total = squares = 0.0
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float64)
        total += float(part.sum())
        # Not a product of BLAS, whose threads wait for one another on a machine with other work.
        squares += float(np.square(part, out=part).sum())
    return total, squares, float(flat.min()), float(flat.max())
