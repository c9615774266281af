"""Products in TF32 on a GPU: a relative error of 3e-4 to 1e-3 from the first convolution on."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.operands import round_operands
from parity.explain.reruns import FailingRun, Rerun
from parity.processes import registry

NAME = "tf32"

BITS = 11
"""Significant bits of an operand: ten stored ones, and the implicit leading one."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if "kernel" not in failing.reference_layer.weights:
        return
    yield Candidate(
        NAME,
        round_operands(BITS),
        f"The products are computed in TF32, whose operands have {BITS} significant bits",
        f"{failing.label}: {registry.get(failing.framework).tf32_remedy}",
        0.55 if 1e-5 < failing.pattern.relative_error < 0.05 else 0.05,
    )


def propose_reruns(run: FailingRun) -> Iterator[Rerun]:
    """Yield the run in the precision that it is judged by: same device, weights and input."""
    if run.error is None and run.precision == NAME != run.judge_as:
        yield Rerun(
            NAME,
            {"precision": run.judge_as},
            f"{run.subject} computes in {NAME}, and is judged by the floor of {run.judge_as}",
            f"in {run.judge_as}",
            f"pass --precision {run.judge_as}, or judge by the floor of {NAME}",
        )
