"""Another momentum: its complement, or gradients that are multiplied by 1 − μ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, with_changes
from parity.training.definition import Form


def propose(evidence: Evidence) -> Iterator[Candidate]:
    optimizer = evidence.terms.optimizer
    if optimizer.name not in ("sgd", "rmsprop") or not evidence.is_of_the_update:
        return
    remedy = f"set the momentum to {optimizer.momentum:g}"
    if optimizer.momentum and optimizer.name == "sgd":
        yield Candidate(
            "momentum-damped",
            f"the gradient is multiplied by 1 − μ = {1 - optimizer.momentum:g} in the momentum",
            "set dampening to 0",
            change=with_changes(form=Form(damped=True)),
        )
    if optimizer.momentum:
        complement = 1 - optimizer.momentum
        for value in (complement, float(np.float32(complement))):
            yield Candidate(
                "momentum-complement",
                f"the momentum is 1 − μ = {value:g}, not μ = {optimizer.momentum:g}",
                remedy,
                change=with_changes(momentum=value),
            )
        yield Candidate(
            "momentum",
            "there is no momentum",
            remedy,
            change=with_changes(momentum=0.0, nesterov=False),
            prior=0.9,
        )
        fitted = _fit(evidence)
        if fitted is not None and abs(fitted - evidence.update.optimizer.momentum) > 1e-9:
            yield Candidate(
                "momentum",
                f"the momentum is {fitted:.6g}, not {optimizer.momentum:g}",
                remedy,
                change=with_changes(momentum=fitted),
                prior=0.5,
            )


def _fit(evidence: Evidence) -> float | None:
    """Return the share of the slots that the subject kept."""
    kept, power = 0.0, 0.0
    for key, value in evidence.updated.items():
        if key.startswith("slot/momentum/") and key in evidence.actual.values:
            before = evidence.failing.before.get(key)
            if before is not None:
                start = np.asarray(before, np.float64)
                own = value - evidence.update.optimizer.momentum * start
                kept += float(np.vdot(start, evidence.actual.values[key] - own))
                power += float(np.vdot(start, start))
    share = kept / power if power else 0.0
    return share if 0 < share < 1 else None
