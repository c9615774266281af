"""Arithmetic in float16 or bfloat16: a fixed relative size, 2⁻¹¹ or 2⁻⁸, in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Change
from parity.explain.proof.operands import operands_to_bits
from parity.explain.rerun import Rerun, Run
from parity.numerics.rounding import round_to_bits

NAME = "low-precision"


def candidates(case: Case) -> Iterator[Candidate]:
    small = 1e-5 < case.fingerprint.relative < 0.05
    for name, bits in (("bfloat16", 8), ("float16", 11)):
        yield Candidate(
            NAME,
            _throughout(bits),
            f"The layer runs in {name}: operands and result have {bits} significant bits",
            f"{case.label}: run it in float32",
            0.5 if small else 0.05,
        )


def reruns(run: Run) -> Iterator[Rerun]:
    """The whole run in the precision that it is judged by: same device, weights and input."""
    if run.failure is None and run.precision not in (run.judge_as, "tf32"):
        yield Rerun(
            NAME,
            {"precision": run.judge_as},
            f"{run.subject} computes in {run.precision}, judged by the floor of {run.judge_as}",
            f"in {run.judge_as}",
            f"ask for --precision {run.judge_as}, or judge by the floor of {run.precision}",
        )


def _throughout(bits: int) -> Change:
    operands = operands_to_bits(bits)
    return lambda layer: operands(layer).then(partial(round_to_bits, bits=bits))
