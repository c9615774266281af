"""Another reduction of the loss, or gradients that are not averaged: all times one number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Array, Candidate, Evidence, project


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if "gradient" not in evidence.kinds or evidence.kinds & {"samples", "statistics"}:
        return
    wanted, found = evidence.expected.gradients(), evidence.actual.gradients()
    name = max(wanted, key=lambda key: float(np.linalg.norm(wanted[key])))
    if name not in found:
        return
    scale = project(found[name], wanted[name])
    if not scale or abs(scale - 1) < 1e-9:
        return
    loss = np.asarray(evidence.expected.values["loss"], np.float64)
    is_loss = "loss" in evidence.kinds
    count, classes = len(evidence.terms.labels), evidence.expected.values["logits"].shape[-1]
    ways = {
        float(count): "summed over the batch, not averaged",
        1.0 / classes: "averaged over the classes, too",
        float(count) / classes: "summed over the batch and averaged over the classes",
        1.0 / count: "divided by the batch size twice",
    }
    text = next((text for value, text in ways.items() if abs(value / scale - 1) < 1e-9), None)
    if is_loss:
        yield Candidate(
            "reduction",
            f"the loss is {text}" if text else f"the loss is {scale:.6g} times as large",
            "use the mean over the samples of the batch",
            expect=partial(evidence.with_gradients, partial(_times, scale), loss=loss * scale),
        )
        return
    whole = abs(scale - round(scale)) < 1e-9 and round(scale) > 1
    yield Candidate(
        "accumulation",
        f"the gradients of {round(scale)} parts are summed, not averaged"
        if whole and not text
        else f"the gradients are {scale:.6g} times as large" + (f": {text}" if text else ""),
        "divide the loss by the number of parts that are accumulated",
        expect=partial(evidence.with_gradients, partial(_times, scale)),
    )


def _times(scale: float, name: str, value: Array) -> Array:
    return value * scale
