"""Softmax inside the model: probabilities instead of logits, in [0, 1] with a sum of 1."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import transform_output
from parity.network import kinds

NAME = "softmax"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.reference_layer.kind == NAME:
        return
    stated = failing.subject_hyper.get("activation") == NAME
    likely = bool(((failing.actual >= 0) & (failing.actual <= 1)).all())
    yield Candidate(
        NAME,
        transform_output(lambda output: kinds.evaluate(NAME, (output,), {}, {})),
        "Softmax is applied to the output: probabilities, where the reference returns logits",
        f"{failing.label}: return logits",
        1.0 if stated else 0.9 if likely else 0.05,
    )
