"""The decay of the weights that a subject's update shows: which weights, how much, which kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.explain.training.candidate import Evidence, project
from parity.training.definition import Update

_LEAST = 1e-4
"""The smallest decay that is one, relative to the largest."""


@dataclass(frozen=True)
class Decay:
    """A decay by `factor`: added to the gradient (`coupled`) or apart from it.

    It compares itself with the `known` factor, the weights and the kind that were asked for.
    """

    factor: float
    decayed: frozenset[str]
    coupled: bool
    same_kind: bool
    same_factor: bool

    def apply(self, update: Update) -> Update:
        """Return the update with this decay instead of its own."""
        l2, decay = (self.factor, 0.0) if self.coupled else (0.0, self.factor)
        return update.replace(l2=l2, weight_decay=decay, decayed=self.decayed)


def read_known(evidence: Evidence) -> float:
    """Return the factor that was asked for, of either kind; 0 for none."""
    return evidence.terms.optimizer.l2 or evidence.terms.optimizer.weight_decay


def fit_decays(evidence: Evidence) -> Iterator[Decay]:
    """Yield the decay that explains the subject's update best, decoupled, then coupled."""
    if not evidence.is_of_the_update:
        return
    known, was_coupled = read_known(evidence), bool(evidence.terms.optimizer.l2)
    for coupled in (False, True):
        found = _fit(evidence, coupled)
        largest = max((abs(value) for value in found.values()), default=0.0)
        if not largest:
            continue
        decayed = frozenset(name for name, value in found.items() if abs(value) > _LEAST * largest)
        factor = float(np.median([found[name] for name in decayed]))
        if factor >= 0:
            yield Decay(
                factor,
                decayed,
                coupled,
                same_kind=coupled == was_coupled and bool(known),
                same_factor=bool(known) and abs(factor / known - 1) < 1e-5,
            )


def _fit(evidence: Evidence, coupled: bool) -> dict[str, float]:
    """Return λ of each weight, by least squares, from the update without any decay."""
    bare = evidence.update.replace(decayed=frozenset())
    plain, optimizer = bare.take(), evidence.terms.optimizer
    found = {}
    for name in bare.gradients:
        weight = np.asarray(evidence.failing.before[f"weight/{name}"], np.float64)
        if not coupled:
            difference = evidence.actual.values[f"weight/{name}"] - plain[f"weight/{name}"]
            found[name] = -project(difference, weight) / evidence.update.rate
            continue
        slot = "momentum" if optimizer.name == "sgd" else "first_moment"
        key = f"slot/{slot}/{name}"
        if key in plain and key in evidence.actual.values:
            share = 1.0 if optimizer.name == "sgd" else 1 - optimizer.beta_1
            found[name] = project(evidence.actual.values[key] - plain[key], weight) / share
    return found
