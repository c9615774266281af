"""Another momentum of a batch-norm: its moving statistics keep another share of their value."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, project
from parity.explain.training.statistics import replace_keep, split_statistic


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.kinds != {"statistics"}:
        return
    differing = evidence.differing("statistics")
    keep = next(iter(evidence.expected.statistics.values()))["keep"]
    found = _fit_keep(evidence, differing)
    if found is None or abs(found - keep) < 1e-9:
        return
    complement = abs(found - (1 - keep)) < 1e-6
    yield Candidate(
        "batch-norm-momentum",
        f"the moving statistics keep {found:.6g} of their value, not {keep:.6g}"
        + (": the momentum's complement" if complement else ""),
        "PyTorch's momentum is 1 minus Keras's",
        expect=partial(replace_keep, evidence, differing, found),
    )


def _fit_keep(evidence: Evidence, names: tuple[str, ...]) -> float | None:
    """Return k of s ← k s + (1 − k) batch's, of the first statistic that shows it."""
    for name in names:
        before, batch, _ = split_statistic(evidence, name)
        direction = before - batch
        if np.linalg.norm(direction) > 1e-6 * np.linalg.norm(batch):
            keep = project(evidence.actual.values[f"weight/{name}"] - batch, direction)
            return keep if 0 <= keep < 1 else None
    return None
