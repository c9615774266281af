"""The moving variance is unbiased in one side: divided by n − 1, not by n."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence
from parity.explain.training.statistics import keep_unbiased


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.kinds != {"statistics"}:
        return
    differing = evidence.differing("statistics")
    if all(f"biased/{name}" in evidence.expected.values for name in differing):
        # compare_step makes the reference's variance biased: this undoes it.
        yield Candidate(
            "running-variance",
            "the moving variance is the unbiased one, of n − 1 values",
            "divide the batch's variance by n",
            expect=partial(keep_unbiased, evidence, differing),
        )
