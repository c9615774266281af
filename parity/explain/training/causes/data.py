"""Another batch: another order, the order of the first epoch, no augmentation, a batch less."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence


def propose(evidence: Evidence) -> Iterator[Candidate]:
    others = evidence.failing.input.other_batches
    if others is None or "samples" not in evidence.kinds:
        return
    for other in others():
        yield Candidate(
            other.cause,
            other.text,
            "give both the batches of one pipeline",
            expect=partial(evidence.failing.rerun, images=other.images, labels=other.labels),
            terms=dataclasses.replace(evidence.terms, images=other.images, labels=other.labels),
        )
