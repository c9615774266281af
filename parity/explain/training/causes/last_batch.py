"""The last, smaller batch left out in one side: the samples differ in the last step of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, take_batch


def propose(evidence: Evidence) -> Iterator[Candidate]:
    source = evidence.failing.input.source
    if source is None or "samples" not in evidence.kinds:
        return
    plan = source.reader.plan
    if source.place == plan.updates - 1 and plan.images % plan.batch and not plan.drop_last:
        yield take_batch(
            evidence,
            "last-batch-dropped",
            "the last, smaller batch is left out",
            "keep the last batch in both, or drop it in both",
            source.reader.read_group(source.epoch + 1, 0),
        )
