"""GELU by erf instead of tanh, or the reverse: a difference of at most 5e-4."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper

NAME = "gelu-form"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.reference_layer.kind != "gelu":
        return
    tanh = bool(failing.reference_layer.hyper.get("approximate", False))
    wanted = repr("tanh" if tanh else "none")
    if failing.framework == "keras":
        wanted = str(tanh)
    yield Candidate(
        NAME,
        change_hyper(approximate=not tanh),
        f"GELU is computed {'exactly, by erf' if tanh else 'by the tanh approximation'}",
        f"{failing.label}: set approximate={wanted}",
        0.9,
    )
