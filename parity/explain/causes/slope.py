"""LeakyReLU with another slope: negatives only. Keras 3's default was 0.3, PyTorch's is 0.01."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.case import Candidate, Case
from parity.explain.layer import Layer

NAME = "leaky-relu-slope"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind != "leaky_relu" or case.actual.shape != case.expected.shape:
        return
    wanted = float(case.layer.hyper["slope"])
    yield Candidate(
        NAME,
        lambda layer: _refit(layer, case),
        f"The slope for negative values is another one than {wanted:g}",
        f"{case.label}: set negative_slope={wanted:g}",
        0.9 if case.fingerprint.negatives else 0.5,
        free=1,
    )


def _refit(layer: Layer, case: Case) -> Layer:
    below = layer.data < 0
    if not below.any():
        raise ValueError("no value is negative")
    data, seen = layer.data[below], case.actual[below]
    return layer.set(slope=float(np.dot(data, seen) / np.dot(data, data)))
