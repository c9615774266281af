"""Another reduction of the loss: a sum, or a mean over elements; the gradients follow it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence
from parity.explain.training.gradients import describe_scale, fit_scale, multiply_gradients


def propose(evidence: Evidence) -> Iterator[Candidate]:
    scale = fit_scale(evidence)
    if scale is None or "loss" not in evidence.kinds:
        return
    text = describe_scale(evidence, scale)
    loss = np.asarray(evidence.expected.values["loss"], np.float64) * scale
    yield Candidate(
        "reduction",
        f"the loss is {text}" if text else f"the loss is {scale:.6g} times as large",
        "use the mean over the samples of the batch",
        expect=partial(multiply_gradients, evidence, scale, loss=loss),
    )
