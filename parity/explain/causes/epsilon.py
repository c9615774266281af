"""Another epsilon in a norm: a factor √((v+ε₁)/(v+ε₂)) a channel, worst at small variance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case, fitted
from parity.explain.proof.layer import Array, Layer, setting
from parity.network import kinds

NAME = "batch-norm-epsilon"

USUAL = (1e-3, 1e-5, 1.001e-5, 1e-6, 2e-5, 1e-4, 1e-12, 0.0)
"""Keras's and PyTorch's defaults, keras.applications', LayerNorm's in ViTs, timm's, BERT's."""


def candidates(case: Case) -> Iterator[Candidate]:
    kind = case.layer.kind
    if "epsilon" not in {setting.name for setting in kinds.get(kind).hyperparameters}:
        return
    # batch-norm-epsilon, layer-norm-epsilon, group-norm-epsilon
    name = f"{kind.replace('_', '-')}-epsilon"
    wanted = float(case.layer.hyper["epsilon"])
    stated = case.settings.get("epsilon")
    values = [] if stated is None else [float(stated)]
    for value in dict.fromkeys([*values, *USUAL]):
        if not np.isclose(value, wanted, rtol=1e-7, atol=0.0):
            yield Candidate(
                name,
                setting(epsilon=value),
                f"Epsilon is {value:g}, not {wanted:g}",
                _remedy(case, wanted),
                1.0 if value in values else 0.5,
            )
    right = any(np.isclose(value, wanted, rtol=1e-7, atol=0.0) for value in values)
    if kind == "batch_norm" and (not right or case.framework == "onnx"):
        told = fitted(lambda: _fitted(case.layer, case.actual))
        # A model's layer that states the right one is off by some other factor; a graph states
        # nothing here.
        yield Candidate(
            name,
            lambda layer: layer.set(epsilon=_fitted(layer, case.actual)),
            f"Epsilon is not {wanted:g}; {told} fits all channels",
            _remedy(case, wanted),
            0.4,
            free=1,
            vague=f"Epsilon is not {wanted:g}",
        )


def _remedy(case: Case, wanted: float) -> str:
    name = kinds.get(case.layer.kind).hyperparameter("epsilon").attribute(case.framework)
    return f"{case.label}: set {name}={wanted:g}"


def _fitted(layer: Layer, actual: Array) -> float:
    """The one epsilon that explains the factors of all channels, weighted by what each says.

    Raises `ValueError` where there is none.
    """
    held, data = layer.weights, layer.data
    if data.shape != actual.shape:
        raise ValueError("the shapes differ")
    shape = (1, -1, *(1,) * (data.ndim - 2))
    centred = (data - held["mean"].reshape(shape)) * held.get("gamma", np.ones(1)).reshape(shape)
    axes = (0, *range(2, data.ndim))
    power = (centred * centred).sum(axis=axes)
    seen = ((actual - held.get("beta", np.zeros(1)).reshape(shape)) * centred).sum(axis=axes)
    usable = (power > 0) & (seen > 0)
    if not usable.any():
        raise ValueError("no channel says anything of epsilon")
    epsilon = (power[usable] / seen[usable]) ** 2 - held["variance"][usable]
    weight = power[usable] / (held["variance"][usable] + 1e-12) ** 3
    value = float((epsilon * weight).sum() / weight.sum())
    if not 0.0 <= value < 1.0:
        raise ValueError("no epsilon fits")
    return value
