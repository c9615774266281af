"""L2 against decoupled decay: the decay passes the optimizer's moments in one side alone."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence
from parity.explain.training.decay import fit_decays


def propose(evidence: Evidence) -> Iterator[Candidate]:
    for decay in fit_decays(evidence):
        if decay.same_factor and not decay.same_kind and decay.decayed == evidence.terms.decayed:
            text = (
                "the decay is added to the gradient, not decoupled"
                if decay.coupled
                else "the decay is decoupled, not added to the gradient"
            )
            yield Candidate(
                "decay-coupling", text, "use one kind of decay", change=decay.apply, prior=0.8
            )
