"""Nesterov's momentum in one side: the slots agree, the updates do not."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, with_changes


def propose(evidence: Evidence) -> Iterator[Candidate]:
    optimizer = evidence.terms.optimizer
    if optimizer.name == "sgd" and optimizer.momentum and evidence.is_of_the_update:
        is_there = not optimizer.nesterov
        yield Candidate(
            "nesterov",
            "Nesterov's momentum is " + ("used" if is_there else "not used"),
            f"set nesterov={optimizer.nesterov}",
            change=with_changes(nesterov=is_there),
        )
