"""Constants of a model that round as the reference's do, and are given the reference's values.

Two codes may compute one table, one in float32 and the other in float64 or in another order. In a
float64 run these tables differ by a rounding of float32, and nothing else may.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_VALUES: ContextVar[Array | None] = ContextVar("constants", default=None)


@contextmanager
def use_constants(values: Array | None) -> Iterator[None]:
    """While open, `match_constants` has these values; None for no values, and no change."""
    token = _VALUES.set(None if values is None else np.unique(np.asarray(values, np.float64)))
    try:
        yield
    finally:
        _VALUES.reset(token)


def has_constants() -> bool:
    """Return whether there are values for the constants of this run."""
    values = _VALUES.get()
    return values is not None and values.size > 0


def match_constants(array: NDArray[np.floating]) -> Array:
    """Return an array in float64 with each number that is one of the values in float32 as that one.

    Such a number is at most one unit in the last place of float32 from the value, which is the
    nearest one. Any other number stays as it is.
    """
    wide = np.asarray(array, np.float64)
    values = _VALUES.get()
    if values is None or not values.size:
        return wide
    above = np.clip(np.searchsorted(values, wide), 0, values.size - 1)
    below = np.clip(above - 1, 0, values.size - 1)
    is_above = np.abs(values[above] - wide) < np.abs(values[below] - wide)
    nearest = np.where(is_above, values[above], values[below])
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(wide).astype(np.float32)).astype(np.float64)
        return np.where(np.abs(nearest - wide) <= unit, nearest, wide)
