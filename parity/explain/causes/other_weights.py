"""Other values in the weights: with the subject's own weights the layer agrees.

They may be those of another layer of the reference: one side ties two layers, and the other does
not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_weights

NAME = "other-weights"
ANOTHER = "weights-of-another-layer"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    own = failing.reference_layer.weights
    changed = [
        role
        for role, value in failing.subject_weights.items()
        if role in own and value.shape == own[role].shape and not np.array_equal(value, own[role])
    ]
    if not changed:
        return
    sources = {role: failing.weight_sources[role] for role in changed
               if role in failing.weight_sources}  # fmt: skip
    if sources:
        texts = [f"its {role} is `{source}` of the reference, not `{wanted}`"
                 for role, (source, wanted) in sources.items()]  # fmt: skip
        pairs = " and ".join(f"`{wanted}` and `{source}`" for source, wanted in sources.values())
        text = " and ".join(texts)
        yield Candidate(
            ANOTHER,
            replace_weights(**{role: failing.subject_weights[role] for role in sources}),
            text[:1].upper() + text[1:],
            f"{failing.label}: tie {pairs} in both models or in neither; if neither ties them, "
            "load each in its own place",
            0.5,
        )
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
