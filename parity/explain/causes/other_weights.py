"""Other values in the weights: with the subject's own weights the layer agrees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_weights

NAME = "other-weights"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    own = failing.reference_layer.weights
    changed = [
        role
        for role, value in failing.subject_weights.items()
        if role in own and value.shape == own[role].shape and not np.array_equal(value, own[role])
    ]
    if not changed:
        return
    counts = ", ".join(
        f"{int((failing.subject_weights[role] != own[role]).sum())} of {own[role].size} in its "
        f"{role}"
        for role in changed
    )
    # Last: other candidates describe a difference of weights more precisely.
    yield Candidate(
        NAME,
        replace_weights(**{role: failing.subject_weights[role] for role in changed}),
        f"Its weights are not the reference's: {counts} differ",
        f"{failing.label}: copy the weights again, by the table; "
        "`--weights` compares both with the weights of one",
        -1.0,
        takes_all_weights=True,
    )
