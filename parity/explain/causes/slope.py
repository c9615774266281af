"""LeakyReLU with another slope: only negative values differ.

The default was 0.3 in early Keras 3, and is 0.01 in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate, format_fit
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer
from parity.network import kinds

NAME = "leaky-relu-slope"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if (
        failing.reference_layer.kind != "leaky_relu"
        or failing.actual.shape != failing.expected.shape
    ):
        return
    wanted = float(failing.reference_layer.hyper["slope"])
    name = kinds.get("leaky_relu").hyperparameter("slope").attribute(failing.framework)
    text = format_fit(lambda: _fit_slope(failing.reference_layer, failing.actual))
    yield Candidate(
        NAME,
        lambda layer: layer.with_hyper(slope=_fit_slope(layer, failing.actual)),
        f"The slope for negative values is {text}, not {wanted:g}",
        f"{failing.label}: set {name}={wanted:g}",
        0.9 if failing.pattern.negatives_only else 0.5,
        fitted_values=1,
        text_without_fit=f"The slope for negative values is not {wanted:g}",
    )


def _fit_slope(layer: Layer, actual: Array) -> float:
    below = layer.data < 0
    if not below.any():
        raise ValueError("no value is negative")
    data, outputs = layer.data[below], actual[below]
    return float(np.dot(data, outputs) / np.dot(data, data))
