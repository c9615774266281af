"""LeakyReLU with another slope: negatives only. Keras 3's default was 0.3, PyTorch's is 0.01."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case, fitted
from parity.explain.proof.layer import Array, Layer
from parity.network import kinds

NAME = "leaky-relu-slope"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind != "leaky_relu" or case.actual.shape != case.expected.shape:
        return
    wanted = float(case.layer.hyper["slope"])
    name = kinds.get("leaky_relu").hyperparameter("slope").attribute(case.framework)
    told = fitted(lambda: _fitted(case.layer, case.actual))
    yield Candidate(
        NAME,
        lambda layer: layer.set(slope=_fitted(layer, case.actual)),
        f"The slope for negative values is {told}, not {wanted:g}",
        f"{case.label}: set {name}={wanted:g}",
        0.9 if case.fingerprint.negatives else 0.5,
        free=1,
        vague=f"The slope for negative values is another one than {wanted:g}",
    )


def _fitted(layer: Layer, actual: Array) -> float:
    below = layer.data < 0
    if not below.any():
        raise ValueError("no value is negative")
    data, seen = layer.data[below], actual[below]
    return float(np.dot(data, seen) / np.dot(data, data))
