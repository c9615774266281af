"""The last, smaller batch left out in one side: the samples differ in the last step of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, take_batch
from parity.training.data.batches import Batch

_REMEDY = "keep the last batch in both, or drop it in both"


def propose(evidence: Evidence) -> Iterator[Candidate]:
    source = evidence.failing.input.source
    if source is None or "samples" not in evidence.kinds:
        return
    plan = source.reader.plan
    if source.place != plan.updates - 1 or not plan.images % plan.batch or plan.drop_last:
        return
    yield take_batch(
        evidence,
        "last-batch-dropped",
        "the last, smaller batch is left out",
        _REMEDY,
        source.reader.read_group(source.epoch + 1, 0),
    )
    terms = evidence.terms
    if len(terms.micro_batch_sizes) > 1:
        kept = sum(terms.micro_batch_sizes[:-1])
        yield take_batch(
            evidence,
            "last-batch-dropped",
            "the last, smaller micro-batch is left out",
            _REMEDY,
            Batch(terms.images[:kept], terms.labels[:kept], terms.micro_batch_sizes[:-1]),
        )
