"""An activation that is followed by a shift: every column stands one place to the right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import transform_output

NAME = "toy-shift"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.reference_layer.kind != "relu" or failing.actual.shape != failing.expected.shape:
        return
    yield Candidate(
        NAME,
        transform_output(lambda output: np.roll(output, 1, axis=-1)),
        "Its columns stand one place to the right",
        f"{failing.label}: remove the shift",
        0.5,
    )
