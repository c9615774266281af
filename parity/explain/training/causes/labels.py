"""Other labels: numbered from 1, or in the reverse order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not {"loss", "gradient"} <= evidence.kinds or evidence.kinds & {"samples", "statistics"}:
        return
    labels = evidence.terms.labels
    classes = evidence.expected.values["logits"].shape[-1]
    for text, other in (
        ("one too large", (labels + 1) % classes),
        ("one too small", (labels - 1) % classes),
        ("in the reverse order of the classes", classes - 1 - labels),
        ("in the reverse order of the batch", labels[::-1].copy()),
    ):
        yield Candidate(
            "labels",
            f"the labels are {text}",
            "number the classes alike",
            expect=partial(evidence.failing.rerun, labels=other),
            terms=dataclasses.replace(evidence.terms, labels=other),
        )
