"""The loss of each sample of a batch, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LOSSES = ("cross-entropy", "cross-entropy-of-probabilities", "mean-squared-error")

LEAST_PROBABILITY = 1e-7
"""Keras's own limit: probabilities are kept this far from 0 and 1."""


def measure_losses(
    outputs: Array, labels: Array, *, loss: str = LOSSES[0], label_smoothing: float = 0.0
) -> Array:
    """Return the losses (N,) of outputs (N, classes) and class indices (N,).

    Cross-entropy: −Σ q log p, where q has 1 − `label_smoothing` more at the label than its share
    of the smoothing (Szegedy et al., 2016, section 7), and p is the softmax of logits or, of
    probabilities, themselves over their sum. Mean squared error: of the one-hot label, over the
    classes.
    """
    outputs = np.asarray(outputs, np.float64)
    classes = outputs.shape[-1]
    target = np.eye(classes)[labels] * (1 - label_smoothing) + label_smoothing / classes
    if loss == "mean-squared-error":
        mean: Array = ((outputs - target) ** 2).mean(-1)
        return mean
    if loss == "cross-entropy-of-probabilities":
        shares = outputs / outputs.sum(-1, keepdims=True)
        logarithms = np.log(np.clip(shares, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
    else:
        shifted = outputs - outputs.max(-1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    found: Array = -(target * logarithms).sum(-1)
    return found
