"""Swapped or missing gamma, beta, mean or variance: an affine map of each channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_weights
from parity.network import kinds

SWAPPED, ABSENT = "norm-weights-swapped", "norm-weight-missing"

NEUTRAL = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    weights = failing.reference_layer.weights
    if "gamma" not in {role.name for role in kinds.get(failing.reference_layer.kind).roles}:
        return
    for one, other in (("gamma", "beta"), ("mean", "variance"), ("gamma", "variance"),
                       ("beta", "mean")):  # fmt: skip
        if one in weights and other in weights:
            yield Candidate(
                SWAPPED,
                replace_weights(**{one: weights[other], other: weights[one]}),
                f"{one.capitalize()} and {other} are swapped",
                f"{failing.label}: map {one} to {one} and {other} to {other}",
                0.6,
            )
    for role in (role for role in NEUTRAL if role in weights):
        neutral = NEUTRAL[role]
        yield Candidate(
            ABSENT,
            replace_weights(**{role: np.full_like(weights[role], neutral)}),
            f"{role.capitalize()} is {neutral:g} in every channel",
            f"{failing.label}: copy {role}, and keep scale and center enabled",
            0.5,
        )
