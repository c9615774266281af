"""Arithmetic in float16 or bfloat16: a relative error of about 2⁻¹¹ or 2⁻⁸ in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import LayerChange
from parity.explain.proof.operands import round_operands
from parity.explain.reruns import FailingRun, Rerun
from parity.numerics.rounding import round_to_bits

NAME = "low-precision"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    small = 1e-5 < failing.pattern.relative_error < 0.05
    for name, bits in (("bfloat16", 8), ("float16", 11)):
        yield Candidate(
            NAME,
            _round_all(bits),
            f"The layer runs in {name}: operands and result have {bits} significant bits",
            f"{failing.label}: run it in float32",
            0.5 if small else 0.05,
        )


def propose_reruns(run: FailingRun) -> Iterator[Rerun]:
    """Yield the run in the precision that it is judged by: same device, weights and input."""
    if run.error is None and run.precision not in (run.judge_as, "tf32"):
        yield Rerun(
            NAME,
            {"precision": run.judge_as},
            f"{run.subject} computes in {run.precision}, and is judged by the floor of "
            f"{run.judge_as}",
            f"in {run.judge_as}",
            f"pass --precision {run.judge_as}, or judge by the floor of {run.precision}",
        )


def _round_all(bits: int) -> LayerChange:
    operands = round_operands(bits)
    return lambda layer: operands(layer).with_output_transform(partial(round_to_bits, bits=bits))
