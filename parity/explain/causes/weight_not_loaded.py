"""A weight at the value that it is initialised with: it was not loaded.

Batch-norm statistics of 0 and 1, a depthwise kernel or a scale of ones, a kernel of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, replace_weights

STATISTICS, NAME = "statistics-not-loaded", "weight-not-loaded"

_STATISTICS = {"mean": 0.0, "variance": 1.0}


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    own, stated = failing.reference_layer.weights, failing.subject_weights
    initial = {
        role: value
        for role, value in stated.items()
        if role in own and _initial_value(value) is not None and _differs(value, own[role])
    }
    statistics = {role: value for role, value in initial.items() if role in _STATISTICS}
    if len(statistics) == len(_STATISTICS) and all(
        _initial_value(value) == _STATISTICS[role] for role, value in statistics.items()
    ):
        yield Candidate(
            STATISTICS,
            replace_weights(**statistics),
            "Its statistics are 0 and 1, the values before any training: they were not loaded",
            f"{failing.label}: load the moving mean and variance",
            0.9,
        )
    if initial:
        names = " and ".join(failing.weight_names.get(role) or role for role in initial)
        values = " and ".join(f"{_initial_value(value):g}" for value in initial.values())
        yield Candidate(
            NAME,
            replace_weights(**initial),
            f"{names} {'is' if len(initial) == 1 else 'are'} {values} everywhere, an initial "
            "value: not loaded",
            f"{failing.label}: load {names}",
            0.85,
        )


def _initial_value(value: Array) -> float | None:
    """Return 0 or 1 if a weight is that everywhere, else None."""
    for constant in (0.0, 1.0):
        if value.size and bool((value == constant).all()):
            return constant
    return None


def _differs(value: Array, own: Array) -> bool:
    return value.shape == own.shape and not np.array_equal(value, own)
