"""Another weight decay, or none: every weight is off by a multiple of itself."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, with_changes
from parity.explain.training.decay import fit_decays, read_known


def propose(evidence: Evidence) -> Iterator[Candidate]:
    known = read_known(evidence)
    remedy = f"set the decay to {known:g}"
    if known and evidence.is_of_the_update:
        yield Candidate(
            "weight-decay",
            "no weight decays",
            remedy,
            change=with_changes(l2=0.0, weight_decay=0.0, decayed=frozenset()),
            prior=0.7,
        )
    for decay in fit_decays(evidence):
        is_other_scope = decay.same_kind and decay.decayed != evidence.terms.decayed
        is_other_kind = not decay.same_kind and decay.decayed == evidence.terms.decayed
        if decay.same_factor and (is_other_scope or is_other_kind):
            # Causes of their own.
            continue
        kind = "added to the gradient" if decay.coupled else "decoupled"
        yield Candidate(
            "weight-decay",
            f"the weights decay by {decay.factor:.6g}, {kind}; {known:g} was asked for",
            remedy,
            change=decay.apply,
            prior=0.6,
        )
