"""Weights that were rounded to float16 or bfloat16: a relative error of 2⁻¹¹ or 2⁻⁸ in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Transform, transform_weights
from parity.numerics.rounding import round_to_bits

NAME = "weights-rounded"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if not failing.reference_layer.weights:
        return
    small = 1e-6 < failing.pattern.relative_error < 0.05
    options: list[tuple[str, Transform]] = [
        ("float16", lambda value: value.astype(np.float16).astype(np.float64)),
        ("bfloat16", lambda value: round_to_bits(value, 8)),
    ]
    for name, change in options:
        for roles, what in _selections(failing):
            yield Candidate(
                NAME,
                transform_weights(roles, change),
                f"{what} {'were' if len(roles) > 1 else 'was'} rounded to {name}",
                f"{failing.label}: save and copy the weights in float32",
                0.6 if small else 0.1,
            )


def _selections(failing: FailingLayer) -> Iterator[tuple[tuple[str, ...], str]]:
    roles = tuple(failing.reference_layer.weights)
    yield roles, "All its weights" if len(roles) > 1 else f"The {roles[0]}"
    if "kernel" in roles and len(roles) > 1:
        yield ("kernel",), "The kernel"
