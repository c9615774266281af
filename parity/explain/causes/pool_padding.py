"""A max-pool padded with 0 instead of −∞: an error at the border where inputs are negative."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper

NAME = "pool-padded-with-zeros"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.reference_layer.kind != "max_pool" or not any(
        map(any, failing.reference_layer.hyper["padding"])
    ):
        return
    stated = failing.subject_hyper.get("pad_value") == "0"
    yield Candidate(
        NAME,
        change_hyper(pad_value="0"),
        "The pool is padded with zeros, which are larger than negative inputs",
        f"{failing.label}: pad with -inf, as a pool's own padding does, or apply a ReLU before it",
        1.0 if stated else 0.9 if failing.pattern.border_only else 0.1,
    )
