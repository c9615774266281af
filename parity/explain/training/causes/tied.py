"""Weights that are tied in one side: each has the sum of both gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Array, Candidate, Evidence


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.kinds & {"samples", "loss", "statistics"}:
        return
    wanted, found = evidence.expected.gradients(), evidence.actual.gradients()
    wrong = [name for name in evidence.differing("gradient") if name in found]
    for first, second in itertools.combinations(wrong, 2):
        if found[first].shape == found[second].shape and np.allclose(
            found[first], found[second], rtol=1e-9, atol=0
        ):
            total = wanted[first] + wanted[second]
            yield Candidate(
                "tied-weights",
                f"{first} and {second} are one weight: each has the sum of both gradients",
                "tie them in both, or in neither",
                expect=partial(evidence.with_gradients, partial(_tie, {first, second}, total)),
            )


def _tie(names: set[str], total: Array, name: str, value: Array) -> Array:
    return total if name in names else value
