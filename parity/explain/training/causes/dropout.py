"""A dropout of another rate, on another number of values, or in one side alone.

Two frameworks never draw the same masks: the steps are taken without any dropout, and agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Array, Candidate, Evidence
from parity.processes.training_requests import DROPOUT_RECORD
from parity.training.steps import StepRecord
from parity.training.verification import REFERENCE


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if evidence.kinds != {"dropout"}:
        return
    wanted, found = (_read(each) for each in (evidence.expected, evidence.actual))
    index = int(evidence.differing("dropout")[0]) - 1
    yield Candidate(
        "dropout",
        f"dropout {index + 1}: {evidence.failing.framework} drops {_describe(found, index)}, "
        f"{REFERENCE} {_describe(wanted, index)}",
        "use the same dropouts at the same places in both",
        expect=lambda: _with_dropouts(evidence.expected, found),
    )


def _read(record: StepRecord) -> Array:
    return np.asarray(record.values.get(DROPOUT_RECORD, np.zeros((0, 2))))


def _describe(dropouts: Array, index: int) -> str:
    if index >= len(dropouts):
        return "none"
    rate, count = dropouts[index]
    return f"{rate:.6g} of {count:.0f} values"


def _with_dropouts(record: StepRecord, dropouts: Array) -> StepRecord:
    """Return a step with the rates of the other side; both are taken without any dropout."""
    return dataclasses.replace(record, values={**record.values, DROPOUT_RECORD: dropouts})
