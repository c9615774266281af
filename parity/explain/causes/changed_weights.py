"""A few weights with other values than the reference's: O(1) or less, from that layer on.

The checkpoint was edited, or an optimiser rewrote an initializer of the ONNX file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, replace_weights

NAME = "changed-weights"

Indices = NDArray[np.intp]

FEW = 64
"""With more differing values the cause is `other-weights`."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    own = failing.reference_layer.weights
    for role, value in failing.subject_weights.items():
        if role not in own or value.shape != own[role].shape:
            continue
        indices = np.argwhere(_differs(value, own[role]))
        if 0 < len(indices) <= min(FEW, max(value.size // 4, 1)):
            yield Candidate(
                NAME,
                replace_weights(**{role: value}),
                _describe(failing, role, value, own[role], indices),
                f"{failing.label}: restore the values, or copy the weights again by the table",
                0.2,
            )


def _describe(failing: FailingLayer, role: str, value: Array, own: Array, indices: Indices) -> str:
    """Return the tensor, index and both values of the largest difference, and the count."""
    order = sorted(map(tuple, indices), key=lambda i: -abs(float(value[i]) - float(own[i])))
    at = order[0]
    name = failing.weight_names.get(role)
    where = f"`{name}`, its {role}," if name else f"its {role}"
    index = tuple(int(i) for i in at)
    first = f"{value[at]:.9g} at {index}, where the reference has {own[at]:.9g}"
    count = f"{len(order)} of {value.size} values differ" if len(order) > 1 else "no other differs"
    return f"In {where} it has {first}; {count}"


def _differs(value: Array, own: Array) -> NDArray[np.bool_]:
    # NaN in both is not a difference.
    return np.asarray((value != own) & ~(np.isnan(value) & np.isnan(own)))
