"""Weights rounded through float16 or bfloat16: 2⁻¹¹ or 2⁻⁸ in the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Step, reweighing
from parity.numerics.rounding import round_to_bits

NAME = "weights-rounded"


def candidates(case: Case) -> Iterator[Candidate]:
    if not case.layer.weights:
        return
    small = 1e-6 < case.fingerprint.relative < 0.05
    options: list[tuple[str, Step]] = [
        ("float16", lambda value: value.astype(np.float16).astype(np.float64)),
        ("bfloat16", lambda value: round_to_bits(value, 8)),
    ]
    for name, change in options:
        for roles, what in _selections(case):
            yield Candidate(
                NAME,
                reweighing(roles, change),
                f"{what} went through {name}",
                f"{case.label}: keep the weights in float32 when they are saved and copied",
                0.6 if small else 0.1,
            )


def _selections(case: Case) -> Iterator[tuple[tuple[str, ...], str]]:
    roles = tuple(case.layer.weights)
    yield roles, "All its weights" if len(roles) > 1 else f"The {roles[0]}"
    if "kernel" in roles and len(roles) > 1:
        yield ("kernel",), "The kernel"
