"""Softmax inside the model, against logits: values in [0, 1], each row of which sums to 1."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import then
from parity.network import kinds

NAME = "softmax"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind == NAME:
        return
    stated = case.settings.get("activation") == NAME
    likely = bool(((case.actual >= 0) & (case.actual <= 1)).all())
    yield Candidate(
        NAME,
        then(lambda output: kinds.evaluate(NAME, (output,), {}, {})),
        "Softmax is applied to the output: probabilities, where the reference gives logits",
        f"{case.label}: end with logits",
        1.0 if stated else 0.9 if likely else 0.05,
    )
