"""The momentum's complement: 1 − μ where μ was asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, with_changes


def propose(evidence: Evidence) -> Iterator[Candidate]:
    momentum = evidence.terms.optimizer.momentum
    if not momentum or not evidence.is_of_the_update:
        return
    complement = 1 - momentum
    # A framework may pass it through float32.
    for value in (complement, float(np.float32(complement))):
        yield Candidate(
            "momentum-complement",
            f"the momentum is 1 − μ = {complement:g}, not μ = {momentum:g}",
            f"set the momentum to {momentum:g}",
            change=with_changes(momentum=value),
        )
