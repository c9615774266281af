"""A few weights that are not the reference's: O(1) or less, from that layer on.

A checkpoint that was edited, or an initializer of an ONNX file that an optimiser wrote anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, weighing

NAME = "changed-weights"

Places = NDArray[np.intp]

FEW = 64
"""More than these are other weights, and no longer told one by one."""


def candidates(case: Case) -> Iterator[Candidate]:
    own = case.layer.weights
    for role, value in case.held.items():
        if role not in own or value.shape != own[role].shape:
            continue
        places = np.argwhere(_differ(value, own[role]))
        if 0 < len(places) <= min(FEW, max(value.size // 4, 1)):
            yield Candidate(
                NAME,
                weighing(**{role: value}),
                _told(case, role, value, own[role], places),
                f"{case.label}: put the right values back, or copy the weights again by the table",
                0.2,
            )


def _told(case: Case, role: str, held: Array, own: Array, places: Places) -> str:
    """Which tensor, where in it, and both values, the largest difference first."""
    order = sorted(map(tuple, places), key=lambda at: -abs(float(held[at]) - float(own[at])))
    at = order[0]
    name = case.names.get(role)
    where = f"`{name}`, its {role}," if name else f"its {role}"
    index = tuple(int(i) for i in at)
    first = f"{held[at]:.9g} at {index}, where the reference has {own[at]:.9g}"
    count = f"{len(order)} of {held.size} values differ" if len(order) > 1 else "no other differs"
    return f"In {where} it holds {first}; {count}"


def _differ(held: Array, own: Array) -> NDArray[np.bool_]:
    # NaN that both have is no difference.
    return np.asarray((held != own) & ~(np.isnan(held) & np.isnan(own)))
