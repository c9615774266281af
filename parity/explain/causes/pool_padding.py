"""A max-pool padded with 0 instead of −∞: the border only, where the inputs are negative."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import setting

NAME = "pool-padded-with-zeros"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.kind != "max_pool" or not any(map(any, case.layer.hyper["padding"])):
        return
    stated = case.settings.get("pad_value") == "0"
    yield Candidate(
        NAME,
        setting(pad_value="0"),
        "The pool's border holds zeros, which are larger than negative inputs",
        f"{case.label}: pad with -inf, as a pool's own padding does, or pool after a ReLU",
        1.0 if stated else 0.9 if case.fingerprint.border else 0.1,
    )
