"""A square dense weight that was not transposed: O(1), and the shapes agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import reweighing

NAME = "dense-transposed"


def candidates(case: Case) -> Iterator[Candidate]:
    kernel = case.layer.weights.get("kernel")
    if kernel is not None and kernel.ndim == 2:
        yield Candidate(
            NAME,
            reweighing(("kernel",), np.transpose),
            "The dense weight is transposed",
            f"{case.label}: transpose the weight: Keras has (inputs, outputs), PyTorch (outputs, "
            "inputs)",
            0.55,
        )
