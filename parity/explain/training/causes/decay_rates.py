"""Other decay rates of the moments: β₁, β₂ of Adam, ρ of RMSprop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence
from parity.training.definition import Update

_SLOTS = {"beta_1": ("first_moment", "β₁", 1), "beta_2": ("second_moment", "β₂", 2),
          "rho": ("mean_square", "ρ", 2)}  # fmt: skip


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not evidence.is_of_the_update or "slot" not in evidence.kinds:
        return
    for field, (slot, symbol, power) in _SLOTS.items():
        value = _fit(evidence, slot, power)
        wanted = getattr(evidence.terms.optimizer, field)
        if value is not None and abs(value - wanted) > 1e-9:
            yield Candidate(
                "decay-rate",
                f"{symbol} is {value:.6g}, not {wanted:g}",
                f"set {symbol} to {wanted:g}",
                change=partial(_with_rate, evidence, field, value),
                prior=0.5,
            )


def _with_rate(evidence: Evidence, field: str, value: float, update: Update) -> Update:
    """Return the update with another decay rate, and the framework's own roundings of it."""
    changes: dict[str, Any] = {field: value}
    optimizer = dataclasses.replace(evidence.terms.optimizer, **changes)
    terms = evidence.terms
    rounded, rate = optimizer.round_as(evidence.failing.framework, terms.number, terms.rate)
    return update.replace(optimizer=rounded, rate=rate)


def _fit(evidence: Evidence, slot: str, power: int) -> float | None:
    """Return β of s ← β s + (1 − β) gᵖ, by least squares."""
    product, square = 0.0, 0.0
    for name, gradient in evidence.update.gradients.items():
        found = evidence.actual.values.get(f"slot/{slot}/{name}")
        if found is None:
            return None
        start = evidence.failing.before.get(f"slot/{slot}/{name}")
        own = np.asarray(gradient, np.float64) ** power
        direction = (0.0 if start is None else start) - own
        product += float(np.vdot(direction, found - own))
        square += float(np.vdot(direction, direction))
    value = product / square if square else 0.0
    return value if 0 < value < 1 else None
