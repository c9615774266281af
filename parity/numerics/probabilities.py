"""Probabilities of classes, from logits or from the outputs of a softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def are_probabilities(outputs: Array) -> bool:
    """Return whether outputs (N, classes) are probabilities already: the model ends in a softmax.

    Their sums may be as far from 1 as half precision rounds them.
    """
    if not len(outputs) or (outputs < 0).any():
        return False
    sums = outputs.sum(axis=1, dtype=np.float64)
    return bool((np.abs(sums - 1) < 2e-3).all())


def log_probabilities(outputs: Array) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities (N, classes) of logits or probabilities."""
    values = outputs.astype(np.float64)
    if are_probabilities(outputs):
        # A probability that was rounded to 0 is less than the smallest float32 above it.
        return np.asarray(np.log(np.maximum(values, np.finfo(np.float32).smallest_subnormal)))
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
