"""Gradients of several parts that are not averaged: the reported loss agrees."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Array, Candidate, Evidence
from parity.explain.training.gradients import describe_scale, fit_scale, multiply_gradients
from parity.training.steps import StepRecord

_REMEDY = "divide the loss by the number of parts that are accumulated"


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if "gradient" not in evidence.kinds or evidence.kinds & {"samples", "loss", "statistics"}:
        return
    scale = fit_scale(evidence)
    if scale is not None:
        yield Candidate(
            "accumulation",
            _describe(evidence, scale),
            _REMEDY,
            expect=partial(multiply_gradients, evidence, scale),
        )
    number = len(evidence.terms.micro_batch_sizes)
    for factor in (1.0, 1 / number) if number else ():
        yield Candidate(
            "accumulation",
            f"the gradient is that of the last of {number} micro-batches alone"
            + (f", divided by {number}" if factor != 1 else ""),
            "set the gradients to zero once in a step, before its first micro-batch",
            expect=partial(_take_last, evidence, factor),
        )


def _describe(evidence: Evidence, scale: float) -> str:
    number = len(evidence.terms.micro_batch_sizes)
    if number and _is(scale, number):
        return f"the gradients of the step's {number} micro-batches are summed, not averaged"
    divisor = number / scale
    if number and divisor > number and _is(divisor, round(divisor)):
        return f"the gradients are divided by {round(divisor)}, not by the {number} micro-batches"
    text = describe_scale(evidence, scale)
    if round(scale) > 1 and _is(scale, round(scale)) and not text:
        return f"the gradients of {round(scale)} parts are summed, not averaged"
    return f"the gradients are {scale:.6g} times as large" + (f": {text}" if text else "")


def _is(value: float, whole: int) -> bool:
    return abs(value - whole) < 1e-9 * whole


def _take_last(evidence: Evidence, factor: float) -> StepRecord:
    """Return the reference's step with the gradients of the last micro-batch, times `factor`."""
    terms, count = evidence.terms, evidence.terms.micro_batch_sizes[-1]
    last = evidence.failing.rerun(
        images=terms.images[-count:], labels=terms.labels[-count:], micro_batch_sizes=()
    ).gradients()

    def replace(name: str, value: Array) -> Array:
        return last[name] * factor

    return evidence.with_gradients(replace)
