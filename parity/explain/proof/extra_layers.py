"""Layers that only the subject has, on one input of a sum: a projection too many, for example.

The structure shows that they exist; this module proves that they are why the sum differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof import search
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, evaluate
from parity.explain.proof.search import Explanation
from parity.network import kinds
from parity.network.table import LayerTable, Row
from parity.numerics.distance import measure_error
from parity.numerics.floor import ROUNDOFF, Floor

NAME = "extra-layers"

STAGE = "extra"
"""The stage of the temporary rows for layers that are in no table."""


@dataclass(frozen=True)
class ExtraLayers:
    """A chain of layers without inputs, and their names in the subject."""

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    on_shortcut: bool
    """Whether they read a tensor that another layer reads too, as a shortcut does."""


def find_extra_layers(row: Row, described: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the layers in no row that a model runs between the previous sum and the sum `row`.

    `described` are the model's layers in execution order (see `parity.network.structure`).
    """
    extra: list[Mapping[str, Any]] = []
    for layer in described:
        if layer["row"] == row.name:
            return extra
        if layer["row"] is None and kinds.find(layer["kind"]) is not None:
            extra.append(layer)
        elif layer["kind"] == row.kind:
            extra.clear()
    return []


def make_rows(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of a table for these layers alone, as JSON, to ask a child for their weights."""
    rows = (
        Row(f"{STAGE}.{index}", STAGE, layer["kind"], layer["name"], layer["name"])
        for index, layer in enumerate(layers)
    )
    return LayerTable(tuple(rows)).to_json()["rows"]  # type: ignore[no-any-return]


def build_chain(
    layers: Sequence[Mapping[str, Any]], table: LayerTable, values: Mapping[str, NDArray[Any]]
) -> ExtraLayers:
    """Return the layers with the subject's weights; `table` has one row for each of them."""
    built = [
        Layer(
            row.kind,
            (),
            layer["hyper"],
            {weight.role: np.asarray(values[weight.name]) for weight in row.weights},
        )
        for layer, row in zip(layers, table.rows, strict=True)
    ]
    names = tuple(layer["name"] for layer in layers)
    return ExtraLayers(names, tuple(built), bool(layers[0]["shares_input"]))


def explain_sum(failing: FailingLayer, extra: ExtraLayers) -> tuple[Explanation, Floor] | None:
    """Return the proof that the extra layers are the cause, and the sum's floor with
    them; or None.
    """
    for position, candidate in enumerate(_candidates(failing, extra)):
        try:
            floor = _floor_with_extra(failing, extra, position)
        except (ValueError, IndexError, KeyError):
            # They do not fit this input of the sum.
            continue
        attempt = search.try_candidates(replace(failing, floor=floor), (candidate,))
        if attempt is not None and attempt.x_floor_after <= failing.limit:
            error = measure_error(actual=failing.actual, expected=failing.expected)
            before = error.rel_l2 / failing.floor.rel_l2
            return Explanation(before, attempt), floor
    return None


def _candidates(failing: FailingLayer, extra: ExtraLayers) -> Iterator[Candidate]:
    """Yield one candidate for each input of the sum."""
    kind_names = [kinds.get(layer.kind).phrase or layer.kind for layer in extra.layers]
    listed = kind_names[0]
    if len(kind_names) > 1:
        listed = f"{', a '.join(kind_names[:-1])} and a {kind_names[-1]}"
    names = " and ".join(f"`{name}`" for name in extra.names)
    verb = "is" if len(kind_names) == 1 else "are"
    text = f"A {listed} {verb} applied before the sum, where the reference has no layer"
    remedy = f"remove {names}"
    if extra.on_shortcut:
        text = f"A {listed} {verb} applied on the shortcut, which is an identity in the reference"
        remedy += ": a block that keeps the shape of its input needs no projection"
    for position in range(len(failing.reference_layer.inputs)):
        change = partial(_apply_to_input, extra=extra, position=position)
        yield Candidate(NAME, change, text, remedy, 1.0)


def _apply_to_input(layer: Layer, *, extra: ExtraLayers, position: int) -> Layer:
    """Return the sum with the extra layers applied to its input at `position`."""
    inputs = list(layer.inputs)
    inputs[position] = _apply(extra, inputs[position])
    return replace(layer, inputs=tuple(inputs))


def _apply(extra: ExtraLayers, tensor: Array, noise: np.random.Generator | None = None) -> Array:
    """Return the output of the chain; `noise` adds each layer's own float32 rounding."""
    for layer in extra.layers:
        tensor = evaluate(replace(layer, inputs=(tensor,)))
        if noise is not None:
            kernel = layer.weights.get("kernel")
            terms = 1 if kernel is None else math.prod(kernel.shape[1:])
            # The roundoffs of one running sum: see `Floor.summed`.
            size = ROUNDOFF * max(1.0, math.sqrt(terms / 6.0))
            size *= math.sqrt(float(np.mean(tensor * tensor)))
            tensor = tensor + size * noise.standard_normal(tensor.shape)
    return tensor


def _floor_with_extra(failing: FailingLayer, extra: ExtraLayers, position: int) -> Floor:
    """Return the floor of the sum with the extra layers, whose rounding is added to it."""
    inputs = failing.reference_layer.inputs
    clean = _apply(extra, inputs[position])
    noisy = _apply(extra, inputs[position], np.random.default_rng(0))
    output = evaluate(_apply_to_input(failing.reference_layer, extra=extra, position=position))
    if clean.shape != inputs[position].shape:
        raise ValueError(f"{clean.shape} on a shortcut of {inputs[position].shape}")
    error = measure_error(actual=output + (noisy - clean), expected=output)
    return replace(
        failing.floor,
        rel_l2=math.hypot(failing.floor.rel_l2, error.rel_l2),
        max_abs=failing.floor.max_abs + error.max_abs,
        scale=error.scale,
    )
