"""A flipped kernel, a true convolution where the reference correlates: O(1) from that layer on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import reweighing

NAME = "kernel-flipped"

_WAYS = {
    (2, 3): "The kernel is flipped: a true convolution, not a correlation",
    (2,): "The kernel is flipped from top to bottom",
    (3,): "The kernel is flipped from left to right",
}


def candidates(case: Case) -> Iterator[Candidate]:
    kernel = case.layer.weights.get("kernel")
    if kernel is None or kernel.ndim != 4 or kernel.shape[2:] == (1, 1):
        return
    for axes, text in _WAYS.items():
        yield Candidate(
            NAME,
            reweighing(("kernel",), partial(np.flip, axis=axes)),
            text,
            f"{case.label}: copy the kernel unflipped: both frameworks correlate",
            0.5,
        )
