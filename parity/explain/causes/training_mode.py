"""A layer left in training mode: the batch's own statistics, or dropout; it may change each run."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Layer, then

NAME = "training-mode"
DROPOUT = "dropout"

SMALLEST = 1.0 / (1.0 - 0.01)
"""The factor of the lowest rate that is looked for; rounding alone gives 1 and a little."""


def candidates(case: Case) -> Iterator[Candidate]:
    calls = {
        "keras": "call the model with training=False",
        "torch": "call model.eval() before running or exporting it",
        "onnx": "export the model in inference mode",
    }
    remedy = f"{case.label}: {calls[case.framework]}"
    if case.layer.kind == "batch_norm":
        told = "It normalises by the batch's own mean and variance"
        if len(case.expected) == 1:
            # Of one image there is no telling them apart.
            told += ", or by each image's own, as InstanceNorm does: give a larger --batch to tell"
        yield Candidate(NAME, _of_the_batch, told, remedy, 0.5)
    if case.actual.shape == case.expected.shape:
        dropped = (case.actual == 0) & (case.expected != 0)
        share = float(dropped.mean())
        if 0.01 < share < 0.99 and not np.all(dropped == (case.expected < 0)):
            yield Candidate(
                DROPOUT,
                then(lambda output: _dropped(output, case.actual)),
                f"{share:.0%} of the values are 0 and the others larger, as dropout makes them",
                remedy,
                0.9,
                free=1,
            )


def _of_the_batch(layer: Layer) -> Layer:
    data = layer.data
    axes = (0, *range(2, data.ndim))
    return layer.weigh(mean=data.mean(axis=axes), variance=data.var(axis=axes))


def _dropped(output: Array, actual: Array) -> Array:
    """`output` with the zeros of `actual`, the rest multiplied by one factor, 1 / (1 - rate)."""
    kept = (actual != 0) & (output != 0)
    factor = float(np.median(actual[kept] / output[kept])) if kept.any() else 0.0
    dropped = _units(output, actual)
    share = float(dropped.mean()) if dropped.size else 0.0
    # What is left is larger by 1 / (1 - rate), and the share of zeros is the rate but for chance.
    chance = 4.0 * math.sqrt(share * (1.0 - share) / max(dropped.size, 1))
    if factor < SMALLEST or abs(1.0 - 1.0 / factor - share) > chance:
        raise ValueError("dropout makes what is left larger by what it takes away")
    return np.where(actual == 0, 0.0, output * factor)


def _units(output: Array, actual: Array) -> NDArray[np.bool_]:
    """Whether each is dropped: items or channels that are so as a whole, or else single values."""
    seen, zero = output != 0, actual == 0
    for first in range(1, min(output.ndim, 3)):
        axes = tuple(range(first, output.ndim))
        some, all_of_it = (zero & seen).any(axis=axes), (zero | ~seen).all(axis=axes)
        if output.ndim > first and (some == (all_of_it & seen.any(axis=axes))).all():
            return np.asarray(all_of_it[seen.any(axis=axes)])
    return np.asarray(zero[seen])
