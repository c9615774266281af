"""Operations that both graphs show to differ: left out, added, other ones, other inputs.

The row is right up to a few operations before it. What the subject has in their place was put into
the reference, which then gives the subject's output, on this input and on a second one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import STATED, Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_output
from parity.explain.proof.region_statements import DifferenceType

LEFT_OUT, ADDED, OTHER = "operation-left-out", "operation-added", "other-operations"
SETTING, TENSOR, STATE = "other-setting", "other-tensor", "initial-state"
PLACES, ORDER = "values-in-another-order", "operations-in-another-order"

NAMES = {
    DifferenceType.LEFT_OUT: LEFT_OUT,
    DifferenceType.ADDED: ADDED,
    DifferenceType.OTHER: OTHER,
    DifferenceType.SETTING: SETTING,
    DifferenceType.TENSOR: TENSOR,
    DifferenceType.STATE: STATE,
    DifferenceType.PLACES: PLACES,
    DifferenceType.ORDER: ORDER,
}

NEEDS_NO_OPERATOR = True


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    proof = failing.region
    if proof is None:
        return
    for statement in dict.fromkeys(proof.statements):
        yield Candidate(
            NAMES[statement.form],
            replace_output(np.asarray(proof.output, np.float64)),
            statement.text,
            statement.remedy,
            STATED,
            proof_method=proof.method,
            is_measured=proof.is_measured,
            replaces_output=True,
        )
