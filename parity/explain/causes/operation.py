"""Another operation than the reference's: a mean for a maximum, one normalisation for another.

The subject states it, and it gives the subject's output on the reference's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Layer
from parity.network import kinds

POOL, NORM, OTHER = "pool-type", "norm-type", "operation-other"

_NEUTRAL = frozenset({"identity", "dropout", "cast"})


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    stated, wanted = failing.stated_layer, failing.reference_layer
    if stated is None or stated.kind in (wanted.kind, *_NEUTRAL) or wanted.kind in _NEUTRAL:
        return
    if len(stated.inputs) != len(wanted.inputs):
        return
    kind, other = kinds.get(wanted.kind), kinds.get(stated.kind)
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
