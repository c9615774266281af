"""An activation that is missing, repeated, misplaced or another one: often only one sign differs.

Softmax and the two forms of GELU have files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import (
    Array,
    Layer,
    Transform,
    change_kind,
    evaluate,
    transform_output,
)
from parity.network import kinds

_IDEMPOTENT = ("relu", "relu6")

MISSING, EXTRA, OTHER = "activation-missing", "activation-extra", "activation-other"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kind = failing.reference_layer.kind
    if kinds.get(kind).activation or kind == "leaky_relu":
        yield Candidate(
            MISSING,
            change_kind("identity"),
            f"The {kind} is missing",
            f"{failing.label}: apply {kind} here",
            0.6,
        )
        yield from _others(failing)
        if kind not in _IDEMPOTENT:
            yield Candidate(
                EXTRA,
                _apply_twice,
                f"The {kind} is applied twice",
                f"{failing.label}: apply {kind} once",
                0.5,
            )
        return
    for name, function in _functions().items():
        if name not in (kind, "softmax"):
            yield Candidate(
                EXTRA,
                transform_output(function),
                f"{name} is applied to the output",
                f"{failing.label}: remove the {name}",
                _score(failing, name),
            )
    if kind != "concat" and any((tensor < 0).any() for tensor in failing.reference_layer.inputs):
        yield Candidate(
            EXTRA,
            _apply_relu_to_inputs,
            "ReLU is applied to the input",
            f"{failing.label}: remove the ReLU before it, or apply it after",
            0.25,
        )


def _functions() -> Mapping[str, Transform]:
    """Return the activations that can follow any layer, by name; GELU in both forms."""
    names = (name for name, kind in kinds.registry().items() if kind.activation)
    found: dict[str, Transform] = {name: partial(_apply, name=name) for name in names}
    found["gelu_tanh"] = partial(_apply, name="gelu", approximate=True)
    return found


def _apply(output: Array, *, name: str, **settings: bool) -> Array:
    return kinds.evaluate(name, (output,), {}, settings)


def _apply_twice(layer: Layer) -> Layer:
    return layer.with_output_transform(
        lambda output: evaluate(
            replace(layer, inputs=(output,), input_transforms=(), output_transforms=())
        )
    )


def _apply_relu_to_inputs(layer: Layer) -> Layer:
    return replace(layer, inputs=tuple(_apply(tensor, name="relu") for tensor in layer.inputs))


def _others(failing: FailingLayer) -> Iterator[Candidate]:
    for name in _functions():
        if name in (failing.reference_layer.kind, "softmax") or "gelu" in name:
            continue
        yield Candidate(
            OTHER,
            change_kind(name),
            f"It computes {name}, not {failing.reference_layer.kind}",
            f"{failing.label}: use {failing.reference_layer.kind}",
            0.3,
        )
    if failing.reference_layer.kind != "leaky_relu":
        for slope in (0.01, 0.2, 0.3, 0.1):
            yield Candidate(
                OTHER,
                change_kind("leaky_relu", slope=slope),
                f"It computes leaky_relu with a slope of {slope}, not "
                f"{failing.reference_layer.kind}",
                f"{failing.label}: use {failing.reference_layer.kind}",
                0.25,
            )


def _score(failing: FailingLayer, name: str) -> float:
    if failing.subject_hyper.get("activation") == name:
        return 1.0
    if name == "relu":
        return 0.7 if (failing.actual >= 0).all() or failing.pattern.negatives_only else 0.1
    return 0.05
