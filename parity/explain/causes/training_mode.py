"""A layer in training mode: batch statistics, or dropout, whose output changes in each run."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, transform_output

NAME = "training-mode"
DROPOUT = "dropout"

MIN_FACTOR = 1.0 / (1.0 - 0.01)
"""The factor of the lowest dropout rate that is tried; rounding gives factors close to 1."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    calls = {
        "keras": "call the model with training=False",
        "torch": "call model.eval() before running or exporting it",
        "onnx": "export the model in inference mode",
    }
    remedy = f"{failing.label}: {calls[failing.framework]}"
    if failing.reference_layer.kind == "batch_norm":
        text = "It normalises by the batch's own mean and variance"
        if len(failing.expected) == 1:
            # For one image both are the same.
            text += (
                ", or by each image's own, as InstanceNorm does: a larger --batch tells them apart"
            )
        yield Candidate(NAME, _use_batch_statistics, text, remedy, 0.5)
    if failing.actual.shape == failing.expected.shape:
        dropped = (failing.actual == 0) & (failing.expected != 0)
        share = float(dropped.mean())
        if 0.01 < share < 0.99 and not np.all(dropped == (failing.expected < 0)):
            yield Candidate(
                DROPOUT,
                transform_output(lambda output: _apply_dropout(output, failing.actual)),
                f"{share:.0%} of the values are 0 and the others larger, as with dropout",
                remedy,
                0.9,
                fitted_values=1,
                is_random=True,
            )


def _use_batch_statistics(layer: Layer) -> Layer:
    data = layer.data
    axes = (0, *range(2, data.ndim))
    return layer.with_weights(mean=data.mean(axis=axes), variance=data.var(axis=axes))


def _apply_dropout(output: Array, actual: Array) -> Array:
    """Return `output` with the zeros of `actual`, and the rest multiplied by 1 / (1 - rate).

    Raises `ValueError` where the factor does not match the share of zeros.
    """
    kept = (actual != 0) & (output != 0)
    factor = float(np.median(actual[kept] / output[kept])) if kept.any() else 0.0
    dropped = _infer_dropout_mask(output, actual)
    share = float(dropped.mean()) if dropped.size else 0.0
    # The factor is 1 / (1 - rate), and the share of zeros is the rate, up to sampling error.
    chance = 4.0 * math.sqrt(share * (1.0 - share) / max(dropped.size, 1))
    if factor < MIN_FACTOR or abs(1.0 - 1.0 / factor - share) > chance:
        raise ValueError("the factor does not match the share of zeros")
    return np.where(actual == 0, 0.0, output * factor)


def _infer_dropout_mask(output: Array, actual: Array) -> NDArray[np.bool_]:
    """Return whether each item or channel is dropped as a whole, or else each value."""
    nonzero, zero = output != 0, actual == 0
    for first in range(1, min(output.ndim, 3)):
        axes = tuple(range(first, output.ndim))
        some, whole = (zero & nonzero).any(axis=axes), (zero | ~nonzero).all(axis=axes)
        if output.ndim > first and (some == (whole & nonzero.any(axis=axes))).all():
            return np.asarray(whole[nonzero.any(axis=axes)])
    return np.asarray(zero[nonzero])
