"""Gradients that are multiplied by 1 − μ in SGD's momentum: slots of a tenth at μ = 0.9."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.training.candidate import Candidate, Evidence, with_changes
from parity.training.definition import Form


def propose(evidence: Evidence) -> Iterator[Candidate]:
    optimizer = evidence.terms.optimizer
    if optimizer.name == "sgd" and optimizer.momentum and evidence.is_of_the_update:
        yield Candidate(
            "momentum-damped",
            f"the gradient is multiplied by 1 − μ = {1 - optimizer.momentum:g} in the momentum",
            "set dampening to 0",
            change=with_changes(form=Form(damped=True)),
        )
