"""Label smoothing differs: the losses differ although the logits agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence
from parity.numerics.losses import measure_losses


def propose(evidence: Evidence) -> Iterator[Candidate]:
    terms = evidence.terms
    if terms.loss != "cross-entropy" or not {"loss", "gradient"} <= evidence.kinds:
        return
    if evidence.kinds & {"samples", "statistics"}:
        return
    logits = evidence.expected.values["logits"]

    def mean(smoothing: float) -> float:
        return float(measure_losses(logits, terms.labels, label_smoothing=smoothing).mean())

    # The loss is linear in the smoothing, so two values determine it.
    one_hot_loss, uniform_loss = mean(0.0), mean(1.0)
    if one_hot_loss == uniform_loss:
        return
    smoothing = (float(evidence.actual.values["loss"]) - one_hot_loss) / (
        uniform_loss - one_hot_loss
    )
    if not -1e-9 <= smoothing < 1 or abs(smoothing - terms.label_smoothing) < 1e-9:
        return
    rounded = float(np.clip(round(smoothing, 6), 0.0, 1.0))
    for value in dict.fromkeys((rounded, max(smoothing, 0.0))):
        yield Candidate(
            "label-smoothing",
            f"labels are smoothed by {value:.6g}, not {terms.label_smoothing:g}",
            f"set the label smoothing to {terms.label_smoothing:g}",
            expect=partial(evidence.failing.rerun, label_smoothing=value),
            terms=dataclasses.replace(terms, label_smoothing=value),
        )
