"""The search for the causes of a step that differs: every candidate is tried on the reference."""

from __future__ import annotations

from parity.explain.training import causes
from parity.explain.training.candidate import Evidence
from parity.training.steps import StepCause
from parity.training.verification import FailingStep


def explain_step(failing: FailingStep) -> tuple[StepCause, ...]:
    """Return the causes that make the reference's step the subject's, one of each name.

    Candidates are tried from the highest prior to the lowest, and end with the first prior that has
    a proof.
    """
    evidence = Evidence(failing)
    candidates = list(causes.propose(evidence))
    found: dict[str, StepCause] = {}
    for prior in sorted({candidate.prior for candidate in candidates}, reverse=True):
        for candidate in candidates:
            if candidate.prior == prior and candidate.name not in found:
                cause = evidence.prove(candidate)
                if cause is not None:
                    found[candidate.name] = cause
        if found:
            break
    return tuple(found.values())
