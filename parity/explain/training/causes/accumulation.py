"""Gradients of several parts that are summed, not averaged: the reported loss agrees."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence
from parity.explain.training.gradients import describe_scale, fit_scale, multiply_gradients


def propose(evidence: Evidence) -> Iterator[Candidate]:
    scale = fit_scale(evidence)
    if scale is None or "loss" in evidence.kinds:
        return
    text = describe_scale(evidence, scale)
    whole = abs(scale - round(scale)) < 1e-9 and round(scale) > 1
    yield Candidate(
        "accumulation",
        f"the gradients of {round(scale)} parts are summed, not averaged"
        if whole and not text
        else f"the gradients are {scale:.6g} times as large" + (f": {text}" if text else ""),
        "divide the loss by the number of parts that are accumulated",
        expect=partial(multiply_gradients, evidence, scale),
    )
