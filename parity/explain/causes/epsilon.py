"""Another epsilon in a normalisation: a factor √((v+ε₁)/(v+ε₂)) in each channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate, format_fit
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, change_hyper
from parity.network import kinds

NAME = "batch-norm-epsilon"

USUAL = (1e-3, 1e-5, 1.001e-5, 1e-6, 2e-5, 1e-4, 1e-12, 0.0)
"""Keras's and PyTorch's defaults, keras.applications', LayerNorm's in ViTs, timm's, BERT's."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kind = failing.reference_layer.kind
    if "epsilon" not in {setting.name for setting in kinds.get(kind).hyperparameters}:
        return
    # batch-norm-epsilon, layer-norm-epsilon, group-norm-epsilon
    name = f"{kind.replace('_', '-')}-epsilon"
    wanted = float(failing.reference_layer.hyper["epsilon"])
    stated = failing.subject_hyper.get("epsilon")
    values = [] if stated is None else [float(stated)]
    for value in dict.fromkeys([*values, *USUAL]):
        if not np.isclose(value, wanted, rtol=1e-7, atol=0.0):
            yield Candidate(
                name,
                change_hyper(epsilon=value),
                f"Epsilon is {value:g}, not {wanted:g}",
                _remedy(failing, wanted),
                1.0 if value in values else 0.5,
            )
    right = any(np.isclose(value, wanted, rtol=1e-7, atol=0.0) for value in values)
    if kind == "batch_norm" and (not right or failing.framework == "onnx"):
        text = format_fit(lambda: _fit_epsilon(failing.reference_layer, failing.actual))
        # A layer that states the right epsilon differs by another factor; a graph states none.
        yield Candidate(
            name,
            lambda layer: layer.with_hyper(epsilon=_fit_epsilon(layer, failing.actual)),
            f"Epsilon is not {wanted:g}; {text} fits all channels",
            _remedy(failing, wanted),
            0.4,
            fitted_values=1,
            text_without_fit=f"Epsilon is not {wanted:g}",
        )


def _remedy(failing: FailingLayer, wanted: float) -> str:
    name = (
        kinds.get(failing.reference_layer.kind)
        .hyperparameter("epsilon")
        .attribute(failing.framework)
    )
    return f"{failing.label}: set {name}={wanted:g}"


def _fit_epsilon(layer: Layer, actual: Array) -> float:
    """Return the epsilon that best explains the factors of all channels, weighted by precision.

    Raises `ValueError` where there is none.
    """
    weights, data = layer.weights, layer.data
    if data.shape != actual.shape:
        raise ValueError("the shapes differ")
    shape = (1, -1, *(1,) * (data.ndim - 2))
    centred = (data - weights["mean"].reshape(shape)) * weights.get("gamma", np.ones(1)).reshape(
        shape
    )
    axes = (0, *range(2, data.ndim))
    power = (centred * centred).sum(axis=axes)
    projection = ((actual - weights.get("beta", np.zeros(1)).reshape(shape)) * centred).sum(
        axis=axes
    )
    usable = (power > 0) & (projection > 0)
    if not usable.any():
        raise ValueError("no channel determines epsilon")
    epsilon = (power[usable] / projection[usable]) ** 2 - weights["variance"][usable]
    weight = power[usable] / (weights["variance"][usable] + 1e-12) ** 3
    value = float((epsilon * weight).sum() / weight.sum())
    if not 0.0 <= value < 1.0:
        raise ValueError("no epsilon fits")
    return value
