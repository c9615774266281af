"""The moving statistics of a batch-norm: what a batch gave them, and other ways to update them."""

from __future__ import annotations

import dataclasses

import numpy as np

from parity.explain.training.candidate import Array, Evidence
from parity.training.steps import StepRecord


def split_statistic(evidence: Evidence, name: str) -> tuple[Array, Array, float]:
    """Return a statistic before, what the batch has of it (the variance biased), and the share."""
    key = f"weight/{name}"
    before = np.asarray(evidence.failing.before[key], np.float64)
    after = evidence.expected.statistic(name)
    keep = next(iter(evidence.expected.statistics.values()))["keep"]
    return before, (after - keep * before) / (1 - keep), keep


def replace_keep(evidence: Evidence, names: tuple[str, ...], keep: float) -> StepRecord:
    """Return the reference's step with statistics that keep another share of their value."""
    values = dict(evidence.expected.values)
    for name in names:
        before, batch, _ = split_statistic(evidence, name)
        values[f"weight/{name}"] = keep * before + (1 - keep) * batch
        values.pop(f"biased/{name}", None)
    return dataclasses.replace(evidence.expected, values=values)


def keep_unbiased(evidence: Evidence, names: tuple[str, ...]) -> StepRecord:
    """Return the reference's step with moving variances that are compared as they are."""
    biased = {f"biased/{name}" for name in names}
    values = {name: value for name, value in evidence.expected.values.items() if name not in biased}
    return dataclasses.replace(evidence.expected, values=values)
