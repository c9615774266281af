"""The moving statistics of a batch-norm: what a batch gave them, and other ways to update them."""

from __future__ import annotations

import dataclasses

import numpy as np

from parity.explain.training.candidate import Array, Evidence
from parity.training.steps import StepRecord, as_biased


def split_statistic(evidence: Evidence, name: str) -> tuple[Array, Array, float]:
    """Return a statistic before, what the batch has of it (the variance biased), and the share."""
    key = f"weight/{name}"
    before = np.asarray(evidence.failing.before[key], np.float64)
    after = evidence.expected.values[key]
    keep = next(iter(evidence.expected.statistics.values()))["keep"]
    if name in evidence.expected.statistics:
        after = as_biased(after, before, evidence.expected.statistics[name])
    return before, (after - keep * before) / (1 - keep), keep


def replace_keep(evidence: Evidence, names: tuple[str, ...], keep: float) -> StepRecord:
    """Return the reference's step with statistics that keep another share of their value."""
    values, updates = dict(evidence.expected.values), dict(evidence.expected.statistics)
    for name in names:
        before, batch, _ = split_statistic(evidence, name)
        values[f"weight/{name}"] = keep * before + (1 - keep) * batch
        if name in updates:
            updates[name] = {**updates[name], "unbiased": False}
    return dataclasses.replace(evidence.expected, values=values, statistics=updates)


def keep_unbiased(evidence: Evidence, names: tuple[str, ...]) -> StepRecord:
    """Return the reference's step with moving variances that are compared as they are."""
    updates = dict(evidence.expected.statistics)
    for name in names:
        updates[name] = {**updates[name], "unbiased": False}
    return dataclasses.replace(evidence.expected, statistics=updates)
