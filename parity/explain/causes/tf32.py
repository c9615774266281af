"""Products in TF32: a relative 3e-4 to 1e-3 from the first convolution on, on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.operands import operands_to_bits
from parity.explain.rerun import Rerun, Run
from parity.processes import registry
from parity.processes.subjects import runtime_of

NAME = "tf32"

BITS = 11
"""Significant bits of an operand: ten are stored, and one goes without saying."""


def candidates(case: Case) -> Iterator[Candidate]:
    if "kernel" not in case.layer.weights:
        return
    yield Candidate(
        NAME,
        operands_to_bits(BITS),
        f"The products are computed in TF32, whose operands have {BITS} significant bits",
        f"{case.label}: {registry.get(runtime_of(case.subject)).tf32_remedy}",
        0.55 if 1e-5 < case.fingerprint.relative < 0.05 else 0.05,
    )


def reruns(run: Run) -> Iterator[Rerun]:
    """The whole run in the precision that it is judged by: same device, weights and input."""
    if run.failure is None and run.precision == NAME != run.judge_as:
        yield Rerun(
            NAME,
            {"precision": run.judge_as},
            f"{run.subject} computes in {NAME}, judged by the floor of {run.judge_as}",
            f"in {run.judge_as}",
            f"ask for --precision {run.judge_as}, or judge by the floor of {NAME}",
        )
