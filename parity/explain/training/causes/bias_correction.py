"""Adam's moments without the correction for their start at 0: the first steps are too large."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, with_changes
from parity.training.definition import Form


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.terms.optimizer.name in ("adam", "adamw") and evidence.is_of_the_update:
        # Without the correction there is no β raised to the power of the step, which is rounded.
        rate = evidence.terms.rate
        decay = evidence.terms.optimizer.weight_decay
        for own in (rate, evidence.update.rate):
            yield Candidate(
                "bias-correction",
                "the moments are not corrected for their start at 0",
                "divide the moments by 1 − βᵗ",
                change=with_changes(form=Form(uncorrected=True), rate=own, weight_decay=decay),
            )
