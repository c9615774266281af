"""A layer left in training mode: the batch's own statistics, or dropout; it may change each run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.case import Candidate, Case
from parity.explain.layer import Array, Layer, then

NAME = "training-mode"
DROPOUT = "dropout"


def candidates(case: Case) -> Iterator[Candidate]:
    calls = {
        "keras": "call the model with training=False",
        "torch": "call model.eval() before running or exporting it",
        "onnx": "export the model in inference mode",
    }
    remedy = f"{case.label}: {calls[case.framework]}"
    if case.layer.kind == "batch_norm":
        yield Candidate(
            NAME, _of_the_batch, "It normalises by the batch's own mean and variance", remedy, 0.5
        )
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
    if factor <= 1.0:
        raise ValueError("dropout makes what is left larger")
    return np.where(actual == 0, 0.0, output * factor)
