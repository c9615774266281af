"""A square dense weight that was not transposed: O(1), and the shapes agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import transform_weights

NAME = "dense-transposed"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kernel = failing.reference_layer.weights.get("kernel")
    if kernel is not None and kernel.ndim == 2:
        yield Candidate(
            NAME,
            transform_weights(("kernel",), np.transpose),
            "The dense weight is transposed",
            f"{failing.label}: transpose the weight: Keras has (inputs, outputs), PyTorch "
            "(outputs, "
            "inputs)",
            0.55,
        )
