"""Data in another order: not shuffled, or one batch before or after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, take_batch


def propose(evidence: Evidence) -> Iterator[Candidate]:
    source = evidence.failing.input.source
    if source is None or "samples" not in evidence.kinds:
        return
    reader, epoch, place = source.reader, source.epoch, source.place
    remedy = "give both the batches of one pipeline"
    if reader.plan.shuffle:
        plan = dataclasses.replace(reader.plan, shuffle=False)
        batch = dataclasses.replace(reader, plan=plan).read_group(epoch, place)
        yield take_batch(evidence, "data-order", "the images are not shuffled", remedy, batch)
    for which, other in (("before", place - 1), ("after", place + 1)):
        if 0 <= other < reader.plan.updates:
            text = f"the batch is the one {which}"
            yield take_batch(evidence, "data-order", text, remedy, reader.read_group(epoch, other))
