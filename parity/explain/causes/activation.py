"""An activation that is missing, doubled, elsewhere or another one: it shows in the signs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from parity.explain.case import Candidate, Case
from parity.explain.layer import Layer, becoming, setting, then
from parity.explain.operators import ACTIVATIONS, OPERATORS

MISSING, EXTRA, OTHER = "activation-missing", "activation-extra", "activation-other"
SOFTMAX = "softmax"
GELU = "gelu-form"


def candidates(case: Case) -> Iterator[Candidate]:
    kind = case.layer.kind
    active = kind in ACTIVATIONS or kind in ("leaky_relu", "gelu")
    if active:
        yield Candidate(
            MISSING,
            becoming("identity"),
            f"The {kind} is missing",
            f"{case.label}: apply {kind} here",
            0.6,
        )
        yield from _others(case)
    yield from _gelu(case)
    for name, function in ACTIVATIONS.items():
        if name == kind or (active and name != "softmax"):
            continue
        softmax = name == "softmax"
        yield Candidate(
            SOFTMAX if softmax else EXTRA,
            then(function),
            f"{'Softmax' if softmax else name} is applied to the output"
            + (": probabilities, where the reference gives logits" if softmax else ""),
            f"{case.label}: {'end with logits' if softmax else f'take the {name} away'}",
            _score(case, name),
        )
    if not active and kind != "concat":
        yield Candidate(
            EXTRA,
            _rectified,
            "ReLU is applied to the input",
            f"{case.label}: take the ReLU before it away, or put it behind",
            0.25,
        )


def _rectified(layer: Layer) -> Layer:
    return replace(layer, inputs=tuple(ACTIVATIONS["relu"](tensor) for tensor in layer.inputs))


def _others(case: Case) -> Iterator[Candidate]:
    for name in ACTIVATIONS:
        if name in (case.layer.kind, "softmax") or name not in OPERATORS or "gelu" in name:
            continue
        yield Candidate(
            OTHER,
            becoming(name),
            f"It computes {name}, not {case.layer.kind}",
            f"{case.label}: use {case.layer.kind}",
            0.3,
        )
    if case.layer.kind != "leaky_relu":
        for slope in (0.01, 0.2, 0.3, 0.1):
            yield Candidate(
                OTHER,
                becoming("leaky_relu", slope=slope),
                f"It computes leaky_relu with a slope of {slope}, not {case.layer.kind}",
                f"{case.label}: use {case.layer.kind}",
                0.25,
            )


def _gelu(case: Case) -> Iterator[Candidate]:
    if case.layer.kind != "gelu":
        return
    tanh = bool(case.layer.hyper.get("approximate", False))
    wanted = {
        "keras": f"approximate={tanh}",
        "torch": f"approximate='{'tanh' if tanh else 'none'}'",
        "onnx": f"approximate='{'tanh' if tanh else 'none'}'",
    }[case.framework]
    yield Candidate(
        GELU,
        setting(approximate=not tanh),
        f"GELU is computed {'exactly, by erf' if tanh else 'by the tanh approximation'}",
        f"{case.label}: set {wanted}",
        0.9,
    )


def _score(case: Case, name: str) -> float:
    stated = case.settings.get("activation")
    if stated == name:
        return 1.0
    positive = bool((case.actual >= 0).all())
    if name == "softmax":
        in_range = positive and bool((case.actual <= 1).all())
        return 0.9 if in_range else 0.05
    if name == "relu":
        return 0.7 if positive or case.fingerprint.negatives else 0.1
    return 0.05
