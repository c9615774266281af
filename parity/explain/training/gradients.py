"""Gradients that are all multiplied by one number."""

from __future__ import annotations

from functools import partial

import numpy as np

from parity.explain.training.candidate import Array, Evidence, project
from parity.training.steps import StepRecord


def fit_scale(evidence: Evidence) -> float | None:
    """Return the factor of the subject's gradients, from the largest; None for 1, or for no one."""
    if "gradient" not in evidence.kinds or evidence.kinds & {"samples", "statistics"}:
        return None
    wanted, found = evidence.expected.gradients(), evidence.actual.gradients()
    name = max(wanted, key=lambda key: float(np.linalg.norm(wanted[key])))
    if name not in found:
        return None
    scale = project(found[name], wanted[name])
    return scale if scale and abs(scale - 1) >= 1e-9 else None


def multiply_gradients(evidence: Evidence, scale: float, **values: Array) -> StepRecord:
    """Return the reference's step with gradients times `scale`, and other values."""
    return evidence.with_gradients(partial(_multiply, scale), **values)


def describe_scale(evidence: Evidence, scale: float) -> str | None:
    """Return which reduction gives this factor of the mean over the batch; None for no known one.

    The means and sums are over the images of the batch, or micro-batch, and over the classes.
    """
    count = float(max(evidence.terms.micro_batch_sizes, default=len(evidence.terms.labels)))
    classes = float(evidence.expected.values["logits"].shape[-1])
    ways = {
        count: "summed over the batch, not averaged",
        1 / classes: "averaged over the classes, too",
        count / classes: "summed over the batch and averaged over the classes",
        1 / count: "divided by the batch size twice",
    }
    return next((text for value, text in ways.items() if abs(value / scale - 1) < 1e-9), None)


def _multiply(scale: float, name: str, value: Array) -> Array:
    return value * scale
