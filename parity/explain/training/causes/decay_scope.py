"""Decay of other weights: biases and normalisations decay in one side alone."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence
from parity.explain.training.decay import fit_decays


def propose(evidence: Evidence) -> Iterator[Candidate]:
    wanted = evidence.terms.decayed
    for decay in fit_decays(evidence):
        if decay.same_kind and decay.same_factor and decay.decayed != wanted:
            groups = (
                (sorted(decay.decayed - wanted), "decay"),
                (sorted(wanted - decay.decayed), "do not decay"),
            )
            text = "; ".join(
                f"{names[0]} and {len(names) - 1} more {state}"
                if len(names) > 1
                else f"{names[0]} {state}"
                for names, state in groups
                if names
            )
            yield Candidate(
                "decay-scope", text, "let the same weights decay", change=decay.apply, prior=0.8
            )
