"""Swapped weights of two layers with equal shapes, or the same for both: O(1) in one or two."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_weights

NAME = "weights-of-another-layer"
SHARED, TIED = "shared-layer", "shared-weights"

MAX_TRIED = 40
"""The number of layers with equal shapes, the nearest ones, that are tried."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    own = failing.reference_layer.weights
    shapes = {role: value.shape for role, value in own.items()}
    if not shapes:
        return
    names = [name for name in failing.reference_weights if name != failing.row.name]
    here = (
        list(failing.reference_weights).index(failing.row.name)
        if failing.row.name in failing.reference_weights
        else 0
    )
    places = {name: index for index, name in enumerate(failing.reference_weights)}
    alike = [
        name
        for name in names
        if {role: value.shape for role, value in failing.reference_weights[name].items()} == shapes
    ]
    for name in sorted(alike, key=lambda name: abs(places[name] - here))[:MAX_TRIED]:
        text, remedy = _describe(failing, name)
        is_one, is_tied = name in failing.shared_calls, name in failing.shared_weights
        yield Candidate(
            SHARED if is_one else TIED if is_tied else NAME,
            replace_weights(**failing.reference_weights[name]),
            text,
            f"{failing.label}: {remedy}",
            0.15,
        )


def _describe(failing: FailingLayer, name: str) -> tuple[str, str]:
    """Return in words whose weights a layer has, and the remedy."""
    places = {**failing.shared_weights, **failing.shared_calls}
    if name not in places:
        return f"It has the weights of {name}", "map weights by name, not by shape or position"
    here = f"{failing.place} and " if failing.place not in ("", places[name]) else ""
    at = f"at {here}{places[name]}"
    if name not in failing.shared_calls:
        return (
            f"It reads the same weights as {name}, {at}: the reference has others for each",
            f"give it weights of its own, as {failing.row.name} has in the reference",
        )
    return (
        f"One layer is called for {failing.row.name} and for {name}, {at}: the reference has two "
        "layers there",
        f"call a layer of its own, as for {failing.row.name} in the reference, at one of the two",
    )
