"""Another operation than the reference's: a mean for a maximum, one normalisation for another.

Most often the subject states it, and it gives the subject's output on the reference's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Layer, change_kind
from parity.network import kinds

POOL, NORM, OTHER = "pool-type", "norm-type", "operation-other"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.subject_layer is None:
        yield from _propose_pools(failing)
    else:
        yield from _propose_stated(failing, failing.subject_layer)


def _propose_pools(failing: FailingLayer) -> Iterator[Candidate]:
    """Yield the maximum for the mean of the same values, or the other."""
    wanted = failing.reference_layer.kind
    maximum = kinds.get(wanted).maximum
    means = [name for name, kind in kinds.registry().items() if kind.maximum == wanted]
    words = ("the maximum", "the mean") if maximum else ("the mean", "the maximum")
    for other in [maximum] if maximum else means:
        yield Candidate(
            POOL,
            change_kind(other),
            f"It takes {words[0]}, where the reference takes {words[1]}",
            f"{failing.label}: take {words[1]}",
            0.5,
        )


def _propose_stated(failing: FailingLayer, stated: Layer) -> Iterator[Candidate]:
    wanted = failing.reference_layer
    kind, other = kinds.get(wanted.kind), kinds.get(stated.kind)
    if stated.kind == wanted.kind or kind.returns_input or other.returns_input:
        return
    if len(stated.inputs) != len(wanted.inputs):
        return
    if kind.joins_branches and other.joins_branches and wanted.kind in ("add", "multiply"):
        # The cause `merge` says what it does with its inputs.
        return
    if "activation" in (kind.family, other.family) or kind.activation or other.activation:
        # The cause `activation` says which of the two is missing.
        return
    names = kind.phrase or wanted.kind, other.phrase or stated.kind
    yield Candidate(
        _name(wanted.kind, stated.kind),
        lambda layer: _as_stated(layer, stated),
        f"It computes {names[1]}, not {names[0]}",
        f"{failing.label}: use {names[0]}",
        0.95,
    )


def _as_stated(layer: Layer, stated: Layer) -> Layer:
    """Return the reference's layer as the subject's operation, on the reference's input."""
    roles = {role.name for role in kinds.get(stated.kind).roles}
    shared = {name: value for name, value in layer.weights.items() if name in roles}
    return replace(
        layer, kind=stated.kind, hyper=stated.hyper, weights={**stated.weights, **shared}
    )


def _name(wanted: str, stated: str) -> str:
    both = (wanted, stated)
    if all("pool" in name or name.startswith("reduce_") for name in both):
        return POOL
    return NORM if all(name.endswith("_norm") for name in both) else OTHER
