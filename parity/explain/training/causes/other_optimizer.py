"""Another optimizer: the slots are of another kind, or missing."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, with_changes
from parity.training.optimizers import Optimizer


def propose(evidence: Evidence) -> Iterator[Candidate]:
    own = evidence.terms.optimizer
    if not evidence.is_of_the_update or "update" not in evidence.kinds:
        return
    rate = own.learning_rate
    for other in (
        Optimizer("sgd", rate), Optimizer("sgd", rate, momentum=0.9), Optimizer("adam", rate),
        Optimizer("adam", rate, epsilon=1e-8), Optimizer("rmsprop", rate),
        Optimizer("rmsprop", rate, rho=0.99, epsilon=1e-8),
    ):  # fmt: skip
        if other.name != own.name and not (other.name == "adam" and own.name == "adamw"):
            yield Candidate(
                "other-optimizer",
                f"the optimizer is {other.name}, not {own.name}",
                f"use {own.name}",
                change=with_changes(optimizer=other, decayed=frozenset()),
                prior=0.7,
            )
