"""Random weights to start training from, drawn once for all frameworks."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.spec import ModelSpec
from parity.network.table import LayerTable, Weight

Array = NDArray[Any]

DEFAULT = "default"
"""The reference framework's own initialisers, drawn by its child."""

SCHEMES = ("glorot-uniform", "xavier-uniform", "he-normal")
"""Glorot and Xavier are one person, and one scheme."""


def draw(
    spec: ModelSpec | None, scheme: str, *, seed: int, table: LayerTable | None = None
) -> dict[str, Array]:
    """Return float32 weights by canonical name, kernels by one of `SCHEMES`.

    `table` replaces the architecture's own, for a variant with other weights in one framework, or
    for a model that is no registered one. What has no role in such a table is not drawn.

    Glorot: U(−a, a) with a = √(6 / (fan in + fan out)) (Glorot & Bengio, 2010, eq. 16). He: N(0,
    2 / fan in) (He et al., 2015, eq. 10), not truncated. Biases and β are 0, γ is 1; batch-norm
    statistics are 0 and 1. Each tensor has a generator of its own, seeded by `seed` and its name.
    """
    if table is None:
        assert spec is not None
        table = spec.table()
    return {
        weight.name: _draw_weight(weight, scheme, seed)
        for _, weight in table.weights()
        if weight.role
    }


def _draw_weight(weight: Weight, scheme: str, seed: int) -> Array:
    if weight.role in ("gamma", "variance"):
        return np.ones(weight.shape, np.float32)
    if "kernel" not in weight.role.split("_") and weight.role != "embeddings":
        return np.zeros(weight.shape, np.float32)
    words = np.frombuffer(hashlib.sha256(weight.name.encode()).digest(), "<u4").tolist()
    random = np.random.default_rng([seed, *words])
    window = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * window, weight.shape[0] * window
    if scheme == "he-normal":
        values = random.standard_normal(weight.shape, np.float32)
        return values * np.float32(math.sqrt(2 / fan_in))
    limit = math.sqrt(6 / (fan_in + fan_out))
    return (random.random(weight.shape, np.float32) * 2 - 1) * np.float32(limit)
