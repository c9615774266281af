"""Gamma and beta, or mean and variance, swapped or left out: an affine map of each channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import weighing
from parity.network import kinds

SWAPPED, ABSENT = "norm-weights-swapped", "norm-weight-missing"

NEUTRAL = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0}


def candidates(case: Case) -> Iterator[Candidate]:
    held = case.layer.weights
    if "gamma" not in {role.name for role in kinds.get(case.layer.kind).roles}:
        return
    for one, other in (("gamma", "beta"), ("mean", "variance"), ("gamma", "variance"),
                       ("beta", "mean")):  # fmt: skip
        if one in held and other in held:
            yield Candidate(
                SWAPPED,
                weighing(**{one: held[other], other: held[one]}),
                f"{one.capitalize()} and {other} are swapped",
                f"{case.label}: map {one} to {one} and {other} to {other}",
                0.6,
            )
    for role in (role for role in NEUTRAL if role in held):
        neutral = NEUTRAL[role]
        yield Candidate(
            ABSENT,
            weighing(**{role: np.full_like(held[role], neutral)}),
            f"{role.capitalize()} is {neutral:g} in every channel",
            f"{case.label}: copy {role}, and keep scale and center switched on",
            0.5,
        )
