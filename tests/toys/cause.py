"""An activation that is followed by a shift: every column stands one place to the right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import then

NAME = "toy-shift"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind != "relu" or case.actual.shape != case.expected.shape:
        return
    yield Candidate(
        NAME,
        then(lambda output: np.roll(output, 1, axis=-1)),
        "Its columns stand one place to the right",
        f"{case.label}: remove the shift",
        0.5,
    )
