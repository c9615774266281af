"""Another decay of the weights: added to the gradient or apart from it, of others, another λ."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, project
from parity.training.definition import Update

_LEAST = 1e-12
"""The smallest decay that is one, relative to the largest."""


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if not evidence.is_of_the_update:
        return
    known = evidence.terms.optimizer.l2 or evidence.terms.optimizer.weight_decay
    if known:
        yield Candidate(
            "weight-decay",
            "no weight decays",
            f"set the decay to {known:g}",
            change=partial(_decay, factor=0.0, decayed=frozenset(), coupled=False),
            prior=0.7,
        )
    for coupled in (False, True):
        found = _fit(evidence, coupled)
        factors = [abs(value) for value in found.values()]
        if not factors or not max(factors):
            continue
        yield from _describe(evidence, found, coupled)


def _describe(evidence: Evidence, found: dict[str, float], coupled: bool) -> Iterator[Candidate]:
    optimizer, wanted = evidence.terms.optimizer, evidence.terms.decayed
    known = optimizer.l2 if optimizer.l2 else optimizer.weight_decay
    was_coupled = bool(optimizer.l2)
    largest = max(found.values(), key=abs)
    decayed = frozenset(name for name, value in found.items() if abs(value) > 1e-4 * abs(largest))
    factor = float(np.median([found[name] for name in decayed]))
    if factor < 0:
        return
    change = partial(_decay, factor=factor, decayed=decayed, coupled=coupled)
    same_kind = coupled == was_coupled and bool(known)
    same_factor = bool(known) and abs(factor / known - 1) < 1e-5
    if same_kind and same_factor and decayed != wanted:
        extra, left_out = sorted(decayed - wanted), sorted(wanted - decayed)
        text = "; ".join(
            f"{names[0]} and {len(names) - 1} more {state}"
            if len(names) > 1
            else f"{names[0]} {state}"
            for names, state in ((extra, "decay"), (left_out, "do not decay"))
            if names
        )
        yield Candidate("decay-scope", text, "let the same weights decay", change=change, prior=0.8)
    elif not same_kind and same_factor and decayed == wanted:
        text = (
            "the decay is added to the gradient, not decoupled"
            if coupled
            else "the decay is decoupled, not added to the gradient"
        )
        yield Candidate("decay-coupling", text, "use one kind of decay", change=change, prior=0.8)
    else:
        kind = "added to the gradient" if coupled else "decoupled"
        text = f"the weights decay by {factor:.6g}, {kind}; {known:g} was asked for"
        yield Candidate(
            "weight-decay", text, f"set the decay to {known:g}", change=change, prior=0.6
        )


def _decay(update: Update, *, factor: float, decayed: frozenset[str], coupled: bool) -> Update:
    l2, decay = (factor, 0.0) if coupled else (0.0, factor)
    return update.replace(l2=l2, weight_decay=decay, decayed=decayed)


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
