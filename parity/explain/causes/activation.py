"""An activation that is missing, repeated, misplaced or another one: often only one sign differs.

Softmax and the two forms of GELU have files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import (
    Array,
    Layer,
    LayerChange,
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
    if kinds.get(kind).activation or kinds.get(kind).family == "activation":
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
    """Yield every activation for the reference's; the one that the subject states comes first."""
    wanted = failing.reference_layer.kind
    remedy = f"{failing.label}: use {kinds.get(wanted).phrase or wanted}"
    stated = failing.subject_layer
    if stated is not None and stated.kind not in (wanted, "identity") and _is_activation(stated):
        yield Candidate(
            OTHER,
            _change_to(stated.kind, stated.hyper),
            f"It computes {_describe(stated.kind, stated.hyper)}, not {wanted}",
            remedy,
            1.0,
        )
    for name, settings in _FORMS:
        if name != wanted or (name not in _OWN_CAUSE and _differs(failing, settings)):
            yield Candidate(
                OTHER,
                _change_to(name, settings),
                f"It computes {_describe(name, settings)}, not {wanted}",
                remedy,
                0.3 if not settings else 0.25,
            )
    if wanted != "silu":
        # x·sigmoid(1.702·x), an approximation of GELU: Hendrycks and Gimpel (2016).
        yield Candidate(
            OTHER,
            lambda layer: replace(layer, kind="identity").with_output_transform(_quick_gelu),
            f"It computes the quick GELU, x·sigmoid(1.702·x), not {wanted}",
            remedy,
            0.2,
        )


_FORMS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("relu", {}), ("relu6", {}), ("sigmoid", {}), ("tanh", {}), ("silu", {}), ("selu", {}),
    ("mish", {}), ("softsign", {}), ("softplus", {}), ("hard_swish", {}), ("log_sigmoid", {}),
    ("elu", {}), ("gelu", {"approximate": False}), ("gelu", {"approximate": True}),
    ("hard_sigmoid", {}), ("hard_sigmoid", {"slope": 0.2}),
    ("leaky_relu", {"slope": 0.01}), ("leaky_relu", {"slope": 0.2}),
    ("leaky_relu", {"slope": 0.3}), ("leaky_relu", {"slope": 0.1}),
    ("clip", {"low": -1.0, "high": 1.0}),
)  # fmt: skip
"""The activations that are tried for any other, with the settings that frameworks use."""


_OWN_CAUSE = frozenset({"leaky_relu", "gelu"})
"""Activations whose settings have causes of their own."""


def _differs(failing: FailingLayer, settings: Mapping[str, Any]) -> bool:
    kind = kinds.get(failing.reference_layer.kind)
    return kind.complete(settings) != kind.complete(failing.reference_layer.hyper)


def _is_activation(layer: Layer) -> bool:
    kind = kinds.find(layer.kind)
    return kind is not None and (kind.activation or kind.family == "activation")


def _change_to(name: str, settings: Mapping[str, Any]) -> LayerChange:
    return lambda layer: replace(layer, kind=name, hyper=dict(settings))


def _describe(name: str, settings: Mapping[str, Any]) -> str:
    stated = {key: value for key, value in settings.items() if value is not None}
    if name == "gelu":
        return f"gelu {'by tanh' if stated.get('approximate') else 'by erf'}"
    known = {s.name: s.default for s in kinds.get(name).hyperparameters}
    shown = [f"{k} {v:g}" for k, v in stated.items()
             if isinstance(v, float) and known.get(k) != v]  # fmt: skip
    return f"{name} with {' and '.join(shown)}" if shown else name


def _quick_gelu(data: Array) -> Array:
    return data * kinds.evaluate("sigmoid", (1.702 * data,), {}, {})


def _score(failing: FailingLayer, name: str) -> float:
    if failing.subject_hyper.get("activation") == name:
        return 1.0
    if name == "relu":
        return 0.7 if (failing.actual >= 0).all() or failing.pattern.negatives_only else 0.1
    return 0.05
