"""The learning rate inside the momentum: the buffer keeps the old rate when the rate changes."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, with_changes
from parity.training.definition import Form


def propose(evidence: Evidence) -> Iterator[Candidate]:
    optimizer, before = evidence.terms.optimizer, evidence.failing.input.rate_before
    if optimizer.name != "sgd" or not optimizer.momentum or not before:
        return
    if not evidence.is_of_the_update or before == evidence.terms.rate:
        return
    yield Candidate(
        "rate-in-momentum",
        f"the momentum has the old learning rate {before:g} inside; it is {evidence.terms.rate:g}",
        "multiply the momentum's slots by the new rate over the old one when the rate changes",
        change=with_changes(form=Form(rate_before=before)),
    )
