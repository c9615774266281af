"""A bias that one side has and the other lacks: a constant offset in each channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from parity.explain.proof.case import Candidate, Case, Shape
from parity.explain.proof.layer import Array, Layer, then, weighing
from parity.network import kinds
from parity.network.structure import Difference
from parity.processes.subjects import side_of

NAME = "bias"


def candidates(case: Case) -> Iterator[Candidate]:
    if "bias" not in {role.name for role in kinds.get(case.layer.kind).roles}:
        return
    score = 0.9 if case.fingerprint.offset else 0.3
    off = f"{case.label}: {_switch(case.framework, False)}"
    elsewhere = (
        f"{case.label}: look for what is added behind it, or to its input (an offset of the "
        "preprocessing, say)"
    )
    if "bias" in case.layer.weights:
        yield Candidate(
            NAME,
            _without,
            "The bias is missing",
            f"{case.label}: {_switch(case.framework, True)} and copy the bias",
            score,
        )
        # Only of one that holds the right bias: else that is what is wrong.
        if np.array_equal(case.held.get("bias", ()), case.layer.weights["bias"]):
            told = "A constant is added in each channel beside its bias"
            yield from _added(case, told, elsewhere, score)
        return
    if "bias" in case.held:
        told = "A bias is added that the reference does not have"
        yield Candidate(NAME, weighing(bias=case.held["bias"]), told, off, 0.9)
    if case.framework != "onnx" and case.settings.get("bias") is False:
        # Switched off already: it comes from somewhere else.
        told = "A constant is added in each channel, though the layer itself has no bias"
        yield from _added(case, told, elsewhere, score)
    else:
        told = "A bias is added that the reference does not have, a constant in each channel"
        yield from _added(case, told, off, score)


def _added(case: Case, told: str, remedy: str, score: float) -> Iterator[Candidate]:
    """A constant in each channel, fitted to the subject's output."""
    if case.actual.shape == case.expected.shape:
        yield Candidate(
            NAME,
            then(lambda output: output + _offset(output, case.actual)),
            told,
            remedy,
            score,
            free=case.expected.shape[_channels(case.expected)],
        )


def shapes(found: Sequence[Difference]) -> Iterator[Shape]:
    """A bias that a model has too many: at 0, as layers are born, no number shows it."""
    by_subject: dict[str, list[Difference]] = {}
    for item in found:
        if item.field == "bias" and item.found is True and item.expected is False:
            by_subject.setdefault(item.subject, []).append(item)
    for subject, items in by_subject.items():
        yield Shape(
            NAME,
            subject,
            tuple(item.row for item in items),
            "It has a bias that the reference does not have; where it is 0, no number differs yet, "
            "and training moves it",
            _switch(side_of(subject), False),
            {"layers": float(len(items))},
        )


def _switch(framework: str, on: bool) -> str:
    name = {"keras": "use_bias", "torch": "bias"}.get(framework)
    return f"set {name}={on}" if name else f"{'give' if on else 'drop'} the node's bias input"


def _channels(tensor: Array) -> int:
    """The axis of the channels: the second, of a sequence (N, T, C) the last."""
    return min(1, tensor.ndim - 1) if tensor.ndim != 3 else 2


def _without(layer: Layer) -> Layer:
    return layer.weigh(bias=np.zeros_like(layer.weights["bias"]))


def _offset(output: Array, actual: Array) -> Array:
    if output.shape != actual.shape:
        raise ValueError("the shapes differ")
    axes = tuple(axis for axis in range(output.ndim) if axis != _channels(output))
    return np.asarray((actual - output).mean(axis=axes, keepdims=True))
