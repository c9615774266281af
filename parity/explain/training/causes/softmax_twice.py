"""A softmax before a loss that has one: small gradients, and a loss near log(classes)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence
from parity.processes.training_requests import StepVariation


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.terms.loss == "cross-entropy" and {"loss", "gradient"} <= evidence.kinds:
        yield Candidate(
            "softmax-twice",
            "the loss takes the softmax of probabilities",
            "give the loss the logits, or tell it that it has probabilities",
            expect=partial(evidence.failing.rerun, variation=StepVariation(extra_softmax=True)),
        )
