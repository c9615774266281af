"""Weights that the optimizer has not: with a gradient, and without a step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, list_briefly
from parity.training.definition import Update


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not evidence.is_of_the_update:
        return
    still = frozenset(
        name
        for name, value in evidence.actual.gradients().items()
        if np.linalg.norm(evidence.change_of(name)) == 0 < np.linalg.norm(value)
    )
    if still:
        yield Candidate(
            "forgotten-weight",
            f"{list_briefly(sorted(still))} has a gradient, and does not change",
            "give the optimizer all parameters",
            change=partial(_leave_out, names=still),
        )


def _leave_out(update: Update, *, names: frozenset[str]) -> Update:
    # Clipping by the norm of all gradients counts those that the optimizer has.
    kept = {name: value for name, value in update.gradients.items() if name not in names}
    return update.replace(gradients=kept)
