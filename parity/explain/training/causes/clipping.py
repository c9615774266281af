"""Gradients that are clipped otherwise: by value, by the norm of each or of all, elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Array, Candidate, Evidence
from parity.training.definition import Update, clip, measure_norm

Way = Callable[[dict[str, Array]], dict[str, Array]]
"""Returns the clipped gradients."""


def propose(evidence: Evidence) -> Iterator[Candidate]:
    optimizer = evidence.terms.optimizer
    limit = optimizer.clip_norm or optimizer.clip_value
    if not evidence.is_of_the_update:
        return
    plain = evidence.update.replace(clip_norm=None, clip_value=None)
    scale = _fit_scale(evidence, plain)
    ways: list[tuple[str, Way, float]] = []
    # Where nothing should be clipped, a smaller learning rate is likelier.
    likely = 0.5 if limit is not None else 0.4
    if limit is not None:
        remedy = (
            f"clip by {'the norm of all gradients' if optimizer.clip_norm else 'value'}, {limit:g}"
        )
        ways = [
            ("gradients are not clipped", lambda g: g, 1.0),
            *(
                (
                    "the norm of each gradient is clipped, not that of all",
                    partial(_each, limit=limit, added=added),
                    1.0,
                )
                for added in (0.0, 1e-6)
            ),
            ("1e-6 is added to the norm", partial(_all, limit=limit, added=1e-6), 1.0),
            ("values are clipped", partial(_values, limit=limit), 1.0),
            ("the norm of all gradients is clipped", partial(_all, limit=limit, added=0.0), 1.0),
        ]
    else:
        remedy = "clip in both or in neither"
    if scale is not None and scale < 1 - 1e-9:
        norm = scale * measure_norm(
            {k: np.asarray(v, np.float64) for k, v in plain.gradients.items()}
        )
        ways.append(
            (
                f"the norm of all gradients is clipped to {norm:.6g}",
                partial(_all, limit=norm, added=0.0),
                likely,
            )
        )
    largest = _fit_value(evidence)
    if largest is not None:
        ways.append(
            (f"values are clipped to {largest:.6g}", partial(_values, limit=largest), likely)
        )
    for text, way, prior in ways:
        yield Candidate("clipping", text, remedy, change=partial(_clip, way=way), prior=prior)


def _clip(update: Update, *, way: Way) -> Update:
    plain = update.replace(clip_norm=None, clip_value=None)
    wide = clip(plain.gradients, plain.optimizer)
    changed = way(wide)
    return plain.map_gradients(lambda name, value: changed[name])


def _each(gradients: dict[str, Array], *, limit: float, added: float) -> dict[str, Array]:
    return {
        name: value * min(1.0, limit / max(float(np.linalg.norm(value)) + added, 1e-300))
        for name, value in gradients.items()
    }


def _all(gradients: dict[str, Array], *, limit: float, added: float) -> dict[str, Array]:
    scale = min(1.0, limit / (measure_norm(gradients) + added))
    return {name: value * scale for name, value in gradients.items()}


def _values(gradients: dict[str, Array], *, limit: float) -> dict[str, Array]:
    return {name: np.clip(value, -limit, limit) for name, value in gradients.items()}


def _used_gradients(evidence: Evidence) -> dict[str, Array] | None:
    """Return the gradients that the subject's update used, where they can be read from it."""
    optimizer, before = evidence.update.optimizer, evidence.failing.before
    found = {}
    for name in evidence.update.gradients:
        if optimizer.name == "sgd" and not optimizer.momentum:
            found[name] = -evidence.change_of(name) / evidence.update.rate
            continue
        slot, keep, share = (
            ("momentum", optimizer.momentum, 1.0)
            if optimizer.name == "sgd"
            else ("first_moment", optimizer.beta_1, 1 - optimizer.beta_1)
        )
        key = f"slot/{slot}/{name}"
        if key not in evidence.actual.values:
            return None
        start = before.get(key)
        found[name] = (
            evidence.actual.values[key] - (0.0 if start is None else keep * start)
        ) / share
    return found


def _fit_scale(evidence: Evidence, plain: Update) -> float | None:
    used = _used_gradients(evidence)
    if used is None:
        return None
    product = sum(float(np.vdot(value, used[name])) for name, value in plain.gradients.items())
    square = sum(float(np.vdot(value, value)) for value in plain.gradients.values())
    return product / square if square else None


def _fit_value(evidence: Evidence) -> float | None:
    used = _used_gradients(evidence)
    if used is None:
        return None
    largest = max(float(np.abs(value).max()) for value in used.values())
    own = max(float(np.abs(value).max()) for value in evidence.update.gradients.values())
    return largest if largest < own * (1 - 1e-9) else None
