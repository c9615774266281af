"""Augmentation in one side only, or a flip alone: the samples differ in every augmented batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, take_batch
from parity.training.data.augmentation import Augmentation


def propose(evidence: Evidence) -> Iterator[Candidate]:
    source = evidence.failing.input.source
    if source is None or "samples" not in evidence.kinds:
        return
    own = source.reader.augmentation
    if own is None or own.is_identity:
        return
    flipped = Augmentation(horizontal_flip=True)
    for text, other in (
        ("the images are not augmented", None),
        ("the images are flipped alone", flipped),
    ):
        if other != own:
            reader = dataclasses.replace(source.reader, augmentation=other)
            batch = reader.read_group(source.epoch, source.place)
            yield take_batch(evidence, "augmentation", text, "augment in both or in neither", batch)
