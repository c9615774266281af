"""An activation that is missing, doubled, elsewhere or another one: it shows in the signs.

Softmax and the two forms of GELU have files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Layer, Step, becoming, evaluate, then
from parity.network import kinds

_IDEMPOTENT = ("relu", "relu6")

MISSING, EXTRA, OTHER = "activation-missing", "activation-extra", "activation-other"


def candidates(case: Case) -> Iterator[Candidate]:
    kind = case.layer.kind
    if kinds.get(kind).activation or kind == "leaky_relu":
        yield Candidate(
            MISSING,
            becoming("identity"),
            f"The {kind} is missing",
            f"{case.label}: apply {kind} here",
            0.6,
        )
        yield from _others(case)
        if kind not in _IDEMPOTENT:
            yield Candidate(
                EXTRA,
                _again,
                f"The {kind} is applied twice",
                f"{case.label}: apply {kind} once",
                0.5,
            )
        return
    for name, function in _functions().items():
        if name not in (kind, "softmax"):
            yield Candidate(
                EXTRA,
                then(function),
                f"{name} is applied to the output",
                f"{case.label}: take the {name} away",
                _score(case, name),
            )
    if kind != "concat" and any((tensor < 0).any() for tensor in case.layer.inputs):
        yield Candidate(
            EXTRA,
            _rectified,
            "ReLU is applied to the input",
            f"{case.label}: take the ReLU before it away, or put it behind",
            0.25,
        )


def _functions() -> Mapping[str, Step]:
    """What can follow any layer, by name; GELU in both of its forms."""
    names = (name for name, kind in kinds.registry().items() if kind.activation)
    found: dict[str, Step] = {name: partial(_apply, name=name) for name in names}
    found["gelu_tanh"] = partial(_apply, name="gelu", approximate=True)
    return found


def _apply(output: Array, *, name: str, **settings: bool) -> Array:
    return kinds.evaluate(name, (output,), {}, settings)


def _again(layer: Layer) -> Layer:
    return layer.then(
        lambda output: evaluate(replace(layer, inputs=(output,), before=(), after=()))
    )


def _rectified(layer: Layer) -> Layer:
    return replace(layer, inputs=tuple(_apply(tensor, name="relu") for tensor in layer.inputs))


def _others(case: Case) -> Iterator[Candidate]:
    for name in _functions():
        if name in (case.layer.kind, "softmax") or "gelu" in name:
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


def _score(case: Case, name: str) -> float:
    if case.settings.get("activation") == name:
        return 1.0
    if name == "relu":
        return 0.7 if (case.actual >= 0).all() or case.fingerprint.negatives else 0.1
    return 0.05
