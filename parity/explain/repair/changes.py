"""The changes of a subject's layer that undo a proved difference, derived from its proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer
from parity.explain.proof.search import Attempt
from parity.network import kinds
from parity.network.kind import tuples_to_lists


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
    return LayerRepair(
        plain.subject,
        plain.row,
        plain.cause,
        plain.text,
        plain.remedy,
        hyper,
        wanted,
        _changed_weights(layer, changed),
        moves,
        moves or any(a is not b for a, b in zip(layer.inputs, changed.inputs, strict=False)),
    )


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
