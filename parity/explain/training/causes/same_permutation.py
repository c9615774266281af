"""The same permutation in every epoch: the samples differ from the second epoch on."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, take_batch


def propose(evidence: Evidence) -> Iterator[Candidate]:
    source = evidence.failing.input.source
    if source is None or "samples" not in evidence.kinds or source.epoch == 1:
        return
    yield take_batch(
        evidence,
        "same-permutation",
        "the order is that of the first epoch",
        "draw a new permutation in every epoch",
        source.reader.read_group(1, source.place),
    )
