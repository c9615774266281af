"""GELU by erf or by tanh: at most 5e-4 an activation."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import setting

NAME = "gelu-form"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind != "gelu":
        return
    tanh = bool(case.layer.hyper.get("approximate", False))
    wanted = repr("tanh" if tanh else "none")
    if case.framework == "keras":
        wanted = str(tanh)
    yield Candidate(
        NAME,
        setting(approximate=not tanh),
        f"GELU is computed {'exactly, by erf' if tanh else 'by the tanh approximation'}",
        f"{case.label}: set approximate={wanted}",
        0.9,
    )
