"""Another momentum, or none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, with_changes


def propose(evidence: Evidence) -> Iterator[Candidate]:
    optimizer = evidence.terms.optimizer
    # Optimizers without a momentum have 0.
    if not optimizer.momentum or not evidence.is_of_the_update:
        return
    remedy = f"set the momentum to {optimizer.momentum:g}"
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
