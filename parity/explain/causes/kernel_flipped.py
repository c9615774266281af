"""A flipped kernel, that is convolution for cross-correlation: O(1) from that layer on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import transform_weights

NAME = "kernel-flipped"

_WAYS = {
    (2, 3): "The kernel is flipped: a convolution, not a cross-correlation",
    (2,): "The kernel is flipped from top to bottom",
    (3,): "The kernel is flipped from left to right",
}


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kernel = failing.reference_layer.weights.get("kernel")
    if kernel is None or kernel.ndim != 4 or kernel.shape[2:] == (1, 1):
        return
    for axes, text in _WAYS.items():
        yield Candidate(
            NAME,
            transform_weights(("kernel",), partial(np.flip, axis=axes)),
            text,
            f"{failing.label}: copy the kernel without flipping it: both frameworks "
            "cross-correlate",
            0.5,
        )
