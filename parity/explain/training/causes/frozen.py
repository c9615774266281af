"""Weights that one side does not train: without a gradient, or left out of the optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence
from parity.training.definition import Update
from parity.training.steps import StepRecord


def propose(evidence: Evidence) -> Iterator[Candidate]:
    wanted, found = evidence.expected.gradients(), evidence.actual.gradients()
    absent = [name for name in wanted if name not in found]
    if absent and evidence.kinds <= {"gradient"}:
        yield Candidate(
            "frozen-weight",
            f"{_list(absent)} has no gradient, and does not change",
            "make it trainable in both: trainable=True in Keras, requires_grad in PyTorch",
            expect=partial(_without, evidence, frozenset(absent)),
        )
    if evidence.is_of_the_update:
        still = frozenset(
            name
            for name in found
            if np.linalg.norm(evidence.change_of(name)) == 0 < np.linalg.norm(found[name])
        )
        if still:
            yield Candidate(
                "forgotten-weight",
                f"{_list(sorted(still))} has a gradient, and does not change",
                "give the optimizer all parameters",
                change=partial(_leave_out, names=still),
            )


def _list(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _without(evidence: Evidence, names: frozenset[str]) -> StepRecord:
    values = {
        key: value
        for key, value in evidence.expected.values.items()
        if key.removeprefix("gradient/") not in names
    }
    return dataclasses.replace(evidence.expected, values=values)


def _leave_out(update: Update, *, names: frozenset[str]) -> Update:
    # Clipping by the norm of all gradients counts those that the optimizer has.
    kept = {name: value for name, value in update.gradients.items() if name not in names}
    return update.replace(gradients=kept)
