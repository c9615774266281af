"""Another learning rate: every weight takes its step times one factor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, take_rate


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not evidence.is_of_the_update:
        return
    wanted = evidence.terms.rate
    rate = _fit(evidence)
    if rate is not None and abs(rate / wanted - 1) > 1e-9:
        remedy = f"set the learning rate to {wanted:g}"
        yield take_rate(evidence, "learning-rate", "", remedy, rate, prior=0.5)


def _fit(evidence: Evidence) -> float | None:
    """Return the rate that gives the subject's updates, by least squares."""
    product, square = 0.0, 0.0
    for name in evidence.update.gradients:
        direction = evidence.expected_change_of(name)
        product += float(np.vdot(direction, evidence.change_of(name)))
        square += float(np.vdot(direction, direction))
    rate = evidence.terms.rate * product / square if square else 0.0
    return rate if rate > 0 else None
