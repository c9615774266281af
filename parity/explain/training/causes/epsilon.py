"""Another ε, or ε in another place: small gradients take another step, large ones the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence, with_changes
from parity.training.definition import Form, Update

USUAL = (1e-8, 1e-7, 1e-3, 1e-6, 1e-5, 1e-10, 1e-12)
"""PyTorch's default, Keras's, and those of papers."""

FORMS = {
    "": Form(),
    "added after the bias correction of v": Form(outer_epsilon=True),
    "inside the root": Form(inner_epsilon=True),
}

RMSPROP_FORMS = {"": Form(), "outside the root": Form(outer_epsilon=True)}


def propose(evidence: Evidence) -> Iterator[Candidate]:
    optimizer = evidence.terms.optimizer
    if optimizer.name == "sgd" or not evidence.is_of_the_update:
        return
    for place, form in (RMSPROP_FORMS if optimizer.name == "rmsprop" else FORMS).items():
        for epsilon in (optimizer.epsilon, *USUAL, _fit(evidence, form)):
            if epsilon is None or (not place and epsilon == optimizer.epsilon):
                continue
            sized = (
                ""
                if epsilon == optimizer.epsilon
                else f"ε is {epsilon:g}, not {optimizer.epsilon:g}"
            )
            text = "; ".join(part for part in (sized, place and f"ε is {place}") if part)
            yield Candidate(
                "epsilon",
                text,
                f"set ε to {optimizer.epsilon:g}, where the definition adds it",
                change=with_changes(epsilon=epsilon, form=form),
                prior=1.0 if epsilon in USUAL or epsilon == optimizer.epsilon else 0.5,
            )


def _fit(evidence: Evidence, form: Form) -> float | None:
    """Return the ε that the largest update leaves, where the root itself is known."""
    if form != Form() or evidence.terms.optimizer.name == "rmsprop":
        return None
    update: Update = evidence.update.replace(epsilon=1e-30, weight_decay=0.0)
    plain = update.take()
    slot = "slot/second_moment/"
    values = []
    for key in plain:
        if key.startswith(slot):
            name = key.removeprefix(slot)
            start = np.asarray(update.before[f"weight/{name}"], np.float64)
            found = evidence.actual.values[f"weight/{name}"] - start
            # Δ = s m / (√v + ε), and Δ₀ = s m / √v.
            ratio = (plain[f"weight/{name}"] - start) / np.where(found == 0, np.nan, found)
            values.append((np.sqrt(plain[key]) * (ratio - 1)).ravel())
    epsilon = float(np.nanmedian(np.concatenate(values))) if values else 0.0
    return epsilon if 0 < epsilon < 1 else None
