"""Weights that one side does not train: they have no gradient there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

from parity.explain.training.candidate import Candidate, Evidence, list_briefly
from parity.processes.training_requests import StepVariation
from parity.training.steps import StepRecord
from parity.training.verification import REFERENCE


def propose(evidence: Evidence) -> Iterator[Candidate]:
    wanted, found = evidence.expected.gradients(), evidence.actual.gradients()
    absent = [name for name in wanted if name not in found]
    if absent and evidence.kinds <= {"gradient"}:
        yield Candidate(
            "frozen-weight",
            f"{list_briefly(absent)} has no gradient, and does not change",
            "make it trainable in both: trainable=True in Keras, requires_grad in PyTorch",
            expect=partial(_without, evidence, frozenset(absent)),
        )
    surplus = tuple(name for name in found if name not in wanted)
    if surplus and not evidence.kinds - {"gradient"}:
        yield Candidate(
            "frozen-weight",
            f"{list_briefly(surplus)} has no gradient in {REFERENCE}, and does not change there",
            "make it trainable in both: trainable=True in Keras, requires_grad in PyTorch",
            expect=partial(
                evidence.failing.rerun, variation=StepVariation(unfrozen_parameters=surplus)
            ),
        )


def _without(evidence: Evidence, names: frozenset[str]) -> StepRecord:
    values = {
        key: value
        for key, value in evidence.expected.values.items()
        if key.removeprefix("gradient/") not in names
    }
    return dataclasses.replace(evidence.expected, values=values)
