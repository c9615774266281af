"""Patience counted otherwise: the rate was reduced on a plateau in one side alone."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, take_rate


def propose(evidence: Evidence) -> Iterator[Candidate]:
    given = evidence.failing.input
    if not evidence.is_of_the_update or given.plateau_factor is None:
        return
    for which, factor in (("earlier", given.plateau_factor), ("later", 1 / given.plateau_factor)):
        yield take_rate(
            evidence,
            "plateau-patience",
            f"the rate was reduced on the plateau an epoch or more {which}",
            "count the patience alike: PyTorch's scheduler waits an epoch longer than Keras's",
            given.rate * factor,
        )
