"""The changes of a subject's layer that undo a proved difference, derived from its proof."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, evaluate
from parity.explain.proof.search import Attempt
from parity.network import kinds
from parity.network.kind import tuples_to_lists


@dataclass(frozen=True)
class Number:
    """A number in an operation: `old` is the subject's, `new` the reference's."""

    place: int
    old: float
    new: float


@dataclass(frozen=True)
class MissingOperation:
    """An operation of the reference on the input at `place`, which the subject lacks.

    `number` is what it computes with, its second input; None for one of one input.
    """

    kind: str
    place: int
    number: float | None = None


@dataclass(frozen=True)
class LayerRepair:
    """What the subject's layer must have instead, for one proved cause.

    `hyper` are the wanted hyperparameters by name, in the units that all frameworks share; `kind`
    is the wanted kind, empty where the subject's is right; `roles` are the weights to take from the
    reference. `moves_weights` says that the layer reads or writes its values at other places, which
    a weight in another order mends too. All are empty for a cause that only its text describes.
    """

    subject: str
    row: str
    cause: str
    text: str
    remedy: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""
    roles: tuple[str, ...] = ()
    moves_weights: bool = False
    changes_data: bool = False
    """Whether the layer reads or gives other values, as by an operation too many beside it."""
    numbers: tuple[Number, ...] = ()
    missing: tuple[MissingOperation, ...] = ()
    factor: float | None = None
    """The number by which what the layer reads or gives is multiplied too often."""
    offset: float | None = None
    """The number that is added to what the layer reads or gives."""

    @property
    def has_text_only(self) -> bool:
        """Whether it is known which operations differ, and no value that they would need."""
        return self == LayerRepair(self.subject, self.row, self.cause, self.text, self.remedy)


def derive_repairs(failing: FailingLayer, proof: Attempt) -> tuple[LayerRepair, ...]:
    """Return what undoes each candidate of a proof, in the order in which they were applied."""
    return tuple(_derive(failing, candidate) for candidate in proof.candidates)


def _derive(failing: FailingLayer, candidate: Candidate) -> LayerRepair:
    layer = failing.reference_layer
    plain = LayerRepair(
        failing.subject, failing.row.name, candidate.cause, candidate.text, candidate.remedy
    )
    changed = candidate.change(layer)
    if candidate.replaces_output and changed.kind == layer.kind:
        return plain
    wanted = layer.kind if changed.kind != layer.kind else ""
    hyper = _changed_settings(layer, changed)
    if wanted:
        hyper = {**kinds.get(wanted).complete(layer.hyper)}
    moves = bool(
        changed.input_transforms != layer.input_transforms
        or changed.output_transforms != layer.output_transforms
    )
    inputs_differ = any(a is not b for a, b in zip(layer.inputs, changed.inputs, strict=False))
    return replace(
        plain,
        hyper=hyper,
        kind=wanted,
        roles=_changed_weights(layer, changed),
        moves_weights=moves,
        changes_data=moves or inputs_differ,
        numbers=tuple(_find_numbers(layer, changed)),
        missing=tuple(_find_missing(failing, changed)),
        factor=_compare_values(layer, changed, find_factor) if moves else None,
        offset=_compare_values(layer, changed, find_offset) if moves else None,
    )


def join_repairs(first: LayerRepair, second: LayerRepair) -> LayerRepair:
    """Return two changes of one layer's settings as one."""
    return replace(
        first,
        cause=f"{first.cause}+{second.cause}",
        text=f"{first.text}; and {second.text[:1].lower()}{second.text[1:]}",
        remedy=f"{first.remedy}; {second.remedy}",
        hyper={**first.hyper, **second.hyper},
        roles=tuple(dict.fromkeys((*first.roles, *second.roles))),
        moves_weights=first.moves_weights or second.moves_weights,
        changes_data=first.changes_data or second.changes_data,
        numbers=(*first.numbers, *second.numbers),
        missing=(*first.missing, *second.missing),
    )


def _compare_values(
    layer: Layer, changed: Layer, find: Callable[[Array, Array], float | None]
) -> float | None:
    """Return what a candidate does to the values that the layer reads, or else gives."""
    if layer.inputs and changed.input_transforms != layer.input_transforms:
        return find(layer.data, changed.data)
    try:
        with np.errstate(all="ignore"):
            return find(evaluate(layer), evaluate(changed))
    except (ValueError, KeyError, IndexError):
        return None


def find_factor(before: Array, after: Array) -> float | None:
    """Return the factor, not 1, by which all values differ; None where there is none."""
    power = float((before * before).sum())
    if before.shape != after.shape or not power:
        return None
    factor = float((before * after).sum()) / power
    close = np.allclose(after, factor * before, rtol=_SAME, atol=_SAME * np.abs(after).max())
    return factor if close and not math.isclose(factor, 1.0, rel_tol=_SAME) and factor else None


def find_offset(before: Array, after: Array) -> float | None:
    """Return the number, not 0, by which all values differ; None where there is none."""
    if before.shape != after.shape or not before.size:
        return None
    offset = float((after - before).mean())
    close = np.allclose(after, before + offset, rtol=_SAME, atol=_SAME * np.abs(after).max())
    return offset if close and abs(offset) > _SAME * np.abs(after).max() else None


_SAME = 1e-9
"""The rounding of float64 in what a candidate computes."""


def _find_numbers(layer: Layer, changed: Layer) -> Iterator[Number]:
    """Yield the numbers of the code that a candidate changes."""
    if len(layer.inputs) != len(changed.inputs):
        return
    for place in sorted(layer.constants & changed.constants):
        new, old = layer.find_number(place), changed.find_number(place)
        if isinstance(new, float) and isinstance(old, float) and new != old:
            yield Number(place, shorten(old), shorten(new))


def _find_missing(failing: FailingLayer, changed: Layer) -> Iterator[MissingOperation]:
    """Yield the reference's operations without which a candidate gives the layer its inputs."""
    for place, missing in failing.missing_input_layers.items():
        if place >= len(changed.inputs) or changed.inputs[place] is not missing.inputs[0]:
            continue
        number = missing.find_number(1)
        if len(missing.inputs) == 1:
            yield MissingOperation(missing.kind, place)
        elif len(missing.inputs) == 2 and isinstance(number, float):
            yield MissingOperation(missing.kind, place, shorten(number))


def shorten(number: float) -> float:
    """Return a number as code writes it: 1e-06 for the float32 that is nearest to that."""
    single = np.float32(number)
    return float(str(single)) if float(single) == number else number


def _changed_settings(layer: Layer, changed: Layer) -> dict[str, Any]:
    """Return the reference's values of the hyperparameters that a candidate changes."""
    if layer.kind != changed.kind:
        return {}
    expected = kinds.get(layer.kind).complete(layer.hyper)
    return {
        name: expected.get(name)
        for name, value in changed.hyper.items()
        if tuples_to_lists(expected.get(name)) != tuples_to_lists(value)
    }


def _changed_weights(layer: Layer, changed: Layer) -> tuple[str, ...]:
    names = dict.fromkeys([*layer.weights, *changed.weights])
    return tuple(
        name for name in names if not _equal(layer.weights.get(name), changed.weights.get(name))
    )


def _equal(first: Array | None, second: Array | None) -> bool:
    if first is None or second is None:
        return first is second
    return first is second or np.array_equal(first, second, equal_nan=True)
