"""A schedule that is one step late or early: the learning rate is that of the step beside."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, take_rate


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not evidence.is_of_the_update:
        return
    given = evidence.failing.input
    for which, rate in (("late", given.rate_before), ("early", given.rate_after)):
        if rate and rate != given.rate:
            yield take_rate(
                evidence,
                "schedule-off-by-one",
                f"the schedule is one step {which}",
                "count the schedule's steps from the same step",
                rate,
            )
