"""Other values in the weights themselves: with the subject's own weights the layer agrees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import weighing

NAME = "other-weights"


def candidates(case: Case) -> Iterator[Candidate]:
    own = case.layer.weights
    changed = [
        role
        for role, value in case.held.items()
        if role in own and value.shape == own[role].shape and not np.array_equal(value, own[role])
    ]
    if not changed:
        return
    counts = ", ".join(
        f"{int((case.held[role] != own[role]).sum())} of {own[role].size} in its {role}"
        for role in changed
    )
    # Last of all: whatever is said of the weights more exactly goes first.
    yield Candidate(
        NAME,
        weighing(**{role: case.held[role] for role in changed}),
        f"It holds other weights than the reference: {counts} differ",
        f"{case.label}: copy the weights again, by the table",
        -1.0,
    )
