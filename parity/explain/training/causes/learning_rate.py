"""Another learning rate: every weight takes its step times one factor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, with_changes


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not evidence.is_of_the_update:
        return
    wanted = evidence.terms.rate
    # The framework's own roundings of the step size stay.
    own = evidence.update.rate / wanted
    for other in evidence.failing.input.other_rates:
        yield Candidate(
            other.cause,
            f"{other.text}: the learning rate is {other.rate:.6g}, not {wanted:.6g}",
            "count the schedule's steps from the same step"
            if "schedule" in other.cause
            else "count the patience alike: PyTorch's scheduler waits an epoch longer than Keras's",
            change=with_changes(rate=other.rate * own),
        )
    rate = _fit(evidence)
    if rate is not None and abs(rate / wanted - 1) > 1e-9:
        yield Candidate(
            "learning-rate",
            f"the learning rate is {rate:.9g}, not {wanted:.9g}",
            f"set the learning rate to {wanted:g}",
            change=with_changes(rate=rate * own),
            prior=0.5,
        )


def _fit(evidence: Evidence) -> float | None:
    """Return the rate that gives the subject's updates, by least squares."""
    product, square = 0.0, 0.0
    for name in evidence.update.gradients:
        direction = evidence.expected_change_of(name)
        product += float(np.vdot(direction, evidence.change_of(name)))
        square += float(np.vdot(direction, direction))
    rate = evidence.terms.rate * product / square if square else 0.0
    return rate if rate > 0 else None
