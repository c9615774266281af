"""Swapped weights of two layers with equal shapes: O(1) in one or two layers."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_weights

NAME = "weights-of-another-layer"

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
        yield Candidate(
            NAME,
            replace_weights(**failing.reference_weights[name]),
            f"It has the weights of {name}",
            f"{failing.label}: map weights by name, not by shape or position",
            0.15,
        )
