"""Layers that only the subject has, on one side of a sum: a projection too many.

Structure tells that they are there; here it is proved that they are why the sum differs.
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
from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Layer, evaluate
from parity.explain.proof.search import Explanation
from parity.network import kinds
from parity.network.table import LayerTable, Row
from parity.numerics.distance import measure
from parity.numerics.floor import ROUNDOFF, Floor

NAME = "extra-layers"

STAGE = "extra"
"""The stage of the rows that stand for layers of no table."""


@dataclass(frozen=True)
class Extra:
    """Layers in a chain, each without its input, and what the subject calls them."""

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    beside: bool
    """Whether they read what another layer reads too, as a shortcut does."""


def beside(row: Row, described: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The layers in no row that a model runs after the sum before `row`, and before `row`."""
    found: list[Mapping[str, Any]] = []
    for layer in described:
        if layer["row"] == row.name:
            return found
        if layer["row"] is None and kinds.find(layer["kind"]) is not None:
            found.append(layer)
        elif layer["kind"] == row.kind:
            found.clear()
    return []


def rows_of(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table for them alone, as JSON, for the child that knows their weights."""
    rows = (
        Row(f"{STAGE}.{index}", STAGE, layer["kind"], layer["name"], layer["name"])
        for index, layer in enumerate(layers)
    )
    return LayerTable(tuple(rows)).to_json()["rows"]  # type: ignore[no-any-return]


def chain(
    layers: Sequence[Mapping[str, Any]], table: LayerTable, values: Mapping[str, NDArray[Any]]
) -> Extra:
    """The layers with the weights that the subject has there."""
    made = [
        Layer(
            row.kind,
            (),
            layer["hyper"],
            {weight.role: np.asarray(values[weight.name]) for weight in row.weights},
        )
        for layer, row in zip(layers, table.rows, strict=True)
    ]
    names = tuple(layer["name"] for layer in layers)
    return Extra(names, tuple(made), bool(layers[0]["beside"]))


def explain(case: Case, extra: Extra) -> tuple[Explanation, Floor] | None:
    """The proof that they are why, and the floor of the sum with them; None if they are not."""
    for position, candidate in enumerate(_candidates(case, extra)):
        try:
            floor = _floor(case, extra, position)
        except (ValueError, IndexError, KeyError):
            # They do not fit what stands on this side of the sum.
            continue
        trial = search.attempt(replace(case, floor=floor), (candidate,))
        if trial is not None and trial.after <= case.limit:
            error = measure(actual=case.actual, expected=case.expected)
            before = error.rel_l2 / case.floor.rel_l2
            return Explanation(before, trial), floor
    return None


def _candidates(case: Case, extra: Extra) -> Iterator[Candidate]:
    words = [kinds.get(layer.kind).phrase or layer.kind for layer in extra.layers]
    listed = f"{', a '.join(words[:-1])} and a {words[-1]}" if len(words) > 1 else words[0]
    names = " and ".join(f"`{name}`" for name in extra.names)
    stand = f"A {listed} stand{'s' * (len(words) == 1)}"
    text = f"{stand} before the sum, where the reference has nothing"
    remedy = f"leave {names} out"
    if extra.beside:
        text = f"{stand} on its shortcut, which the reference adds as it is"
        remedy += ": a block that ends in the shape that it is given needs no projection"
    for position in range(len(case.layer.inputs)):
        change = partial(_with, extra=extra, position=position)
        yield Candidate(NAME, change, text, remedy, 1.0)


def _with(layer: Layer, *, extra: Extra, position: int) -> Layer:
    """The sum, one of its inputs being sent through the extra layers first."""
    inputs = list(layer.inputs)
    inputs[position] = _through(extra, inputs[position])
    return replace(layer, inputs=tuple(inputs))


def _through(extra: Extra, tensor: Array, noise: np.random.Generator | None = None) -> Array:
    """What the extra layers make of a tensor, with each one's own float32 rounding as `noise`."""
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


def _floor(case: Case, extra: Extra, position: int) -> Floor:
    """The sum's floor if its shortcut has these layers, whose rounding then reaches it too."""
    inputs = case.layer.inputs
    clean = _through(extra, inputs[position])
    noisy = _through(extra, inputs[position], np.random.default_rng(0))
    made = evaluate(_with(case.layer, extra=extra, position=position))
    if clean.shape != inputs[position].shape:
        raise ValueError(f"{clean.shape} on a shortcut of {inputs[position].shape}")
    error = measure(actual=made + (noisy - clean), expected=made)
    return replace(
        case.floor,
        rel_l2=math.hypot(case.floor.rel_l2, error.rel_l2),
        max_abs=case.floor.max_abs + error.max_abs,
        scale=error.scale,
    )
