"""A pool or a reduction that takes the mean where the reference takes the maximum, or the other."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_kind
from parity.network import kinds

NAME = "pool-type"

_OTHER = {
    "avg_pool": "max_pool",
    "max_pool": "avg_pool",
    "global_avg_pool": "global_max_pool",
    "global_max_pool": "global_avg_pool",
    "reduce_mean": "reduce_max",
    "reduce_max": "reduce_mean",
}
_WORDS = {True: "the maximum", False: "the mean"}


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kind = failing.reference_layer.kind
    other = _OTHER.get(kind)
    if other is None or failing.actual.shape != failing.expected.shape:
        return
    known = {each.name for each in kinds.get(kind).hyperparameters}
    defaults = {
        each.name: each.default
        for each in kinds.get(other).hyperparameters
        if each.name not in known
    }
    is_maximum = "max" in other
    yield Candidate(
        NAME,
        change_kind(other, **defaults),
        f"It takes {_WORDS[is_maximum]}, where the reference takes {_WORDS[not is_maximum]}",
        f"{failing.label}: take {_WORDS[not is_maximum]}",
        0.5,
    )
