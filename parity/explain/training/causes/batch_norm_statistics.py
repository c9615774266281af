"""Moving statistics that are updated otherwise: another momentum, the unbiased variance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Array, Candidate, Evidence, project
from parity.training.steps import StepRecord, as_biased


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.kinds != {"statistics"}:
        return
    differing = evidence.differing("statistics")
    variances = [name for name in differing if name in evidence.expected.statistics]
    update = next(iter(evidence.expected.statistics.values()))
    if len(variances) == len(differing):
        # compare_step makes the reference's variance biased: this undoes it.
        yield Candidate(
            "running-variance",
            "the moving variance is the unbiased one, of n − 1 values",
            "divide the batch's variance by n",
            expect=partial(_with_statistics, evidence, differing, None, True),
        )
    keep = update["keep"]
    found = _fit_keep(evidence, differing)
    if found is None or abs(found - keep) < 1e-9:
        return
    complement = abs(found - (1 - keep)) < 1e-6
    yield Candidate(
        "batch-norm-momentum",
        f"the moving statistics keep {found:.6g} of their value, not {keep:.6g}"
        + (": the momentum's complement" if complement else ""),
        "PyTorch's momentum is 1 minus Keras's",
        expect=partial(_with_statistics, evidence, differing, found, False),
    )


def _reference(evidence: Evidence, name: str) -> tuple[Array, Array, float]:
    """Return a statistic before, what the batch has of it (the variance biased), and the share."""
    key = f"weight/{name}"
    before = np.asarray(evidence.failing.before[key], np.float64)
    after = evidence.expected.values[key]
    keep = next(iter(evidence.expected.statistics.values()))["keep"]
    if name in evidence.expected.statistics:
        after = as_biased(after, before, evidence.expected.statistics[name])
    return before, (after - keep * before) / (1 - keep), keep


def _fit_keep(evidence: Evidence, names: tuple[str, ...]) -> float | None:
    """Return k of s ← k s + (1 − k) batch's, of the first statistic that shows it."""
    for name in names:
        before, batch, _ = _reference(evidence, name)
        direction = before - batch
        if np.linalg.norm(direction) > 1e-6 * np.linalg.norm(batch):
            keep = project(evidence.actual.values[f"weight/{name}"] - batch, direction)
            return keep if 0 <= keep < 1 else None
    return None


def _with_statistics(
    evidence: Evidence, names: tuple[str, ...], keep: float | None, unbiased: bool
) -> StepRecord:
    values, updates = dict(evidence.expected.values), dict(evidence.expected.statistics)
    for name in names:
        before, batch, usual = _reference(evidence, name)
        share = usual if keep is None else keep
        key = f"weight/{name}"
        if unbiased and name in updates:
            updates[name] = {**updates[name], "unbiased": False}
            continue
        values[key] = share * before + (1 - share) * batch
        if name in updates:
            updates[name] = {**updates[name], "unbiased": False}
    return dataclasses.replace(evidence.expected, values=values, statistics=updates)
