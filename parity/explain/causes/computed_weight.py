"""A weight that is computed otherwise than the reference's: a kernel with another mask.

The weights that it is computed of are the same, as the level of weights shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, replace_weights

NAME = "computed-weight"

_ROUNDING = 1e-6
"""The largest difference, relative to the largest value, of weights that are called the same."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    wanted = failing.reference_layer.weights
    for role, value in failing.computed_weights.items():
        if role not in wanted or value.shape != wanted[role].shape:
            continue
        text = _describe(role, value, wanted[role])
        if text:
            yield Candidate(
                NAME,
                replace_weights(**{role: value}),
                text,
                f"{failing.label}: compute its {role} as the reference does",
                0.6,
            )


def _describe(role: str, value: Array, wanted: Array) -> str:
    """Return how a computed weight differs; empty where it does not."""
    scale = float(np.abs(wanted).max(initial=0.0))
    differs = ~(np.abs(value - wanted) <= _ROUNDING * scale)
    count = int(np.count_nonzero(differs))
    if not count:
        return ""
    at = tuple(int(i) for i in np.unravel_index(int(np.abs(value - wanted).argmax()), value.shape))
    zeros, other_zeros = (int(np.count_nonzero(differs & (each == 0))) for each in (value, wanted))
    places = [f"{zeros} here" if zeros else "", f"{other_zeros} there" if other_zeros else ""]
    masked = " and ".join(each for each in places if each)
    more = f" (of these are 0: {masked})" if masked else ""
    own, other = (f"{each[at] + 0.0:.6g}" for each in (value, wanted))
    return (
        f"Its {role} is computed otherwise: {count} of {value.size} values differ{more}, such as "
        f"{own} at {at}, where the reference has {other}"
    )
