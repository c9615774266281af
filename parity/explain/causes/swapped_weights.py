"""Two weights of one shape swapped: one or two layers are off by O(1)."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import weighing

NAME = "weights-of-another-layer"

TRIED = 40
"""Same-shaped layers that are tried: in a deep network the nearest of them."""


def candidates(case: Case) -> Iterator[Candidate]:
    own = case.layer.weights
    shapes = {role: value.shape for role, value in own.items()}
    if not shapes:
        return
    names = [name for name in case.weights if name != case.row.name]
    here = list(case.weights).index(case.row.name) if case.row.name in case.weights else 0
    places = {name: index for index, name in enumerate(case.weights)}
    alike = [
        name
        for name in names
        if {role: value.shape for role, value in case.weights[name].items()} == shapes
    ]
    for name in sorted(alike, key=lambda name: abs(places[name] - here))[:TRIED]:
        yield Candidate(
            NAME,
            weighing(**case.weights[name]),
            f"It holds the weights of {name}",
            f"{case.label}: map weights by name, not by shape or position",
            0.15,
        )
