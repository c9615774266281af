"""All weights of one model as another model has them, complete in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.weights import (
    gather_weight,
    group_weight_pairs,
    list_weight_pairs,
    transfer_group,
)
from parity.errors import WeightError
from parity.network.alignment import Alignment, Confidence
from parity.network.graph import Graph, Node

Array = NDArray[Any]

_NEUTRAL = {"bias": 0.0, "beta": 0.0, "gamma": 1.0}
"""The value, by role, of a weight that changes nothing: a layer with it computes as one without."""


@dataclass(frozen=True)
class ConvertedWeights:
    """The weights of the target model, by its own names, and what is wrong with them.

    `missing` are the target's weights, and `surplus` the source's, that have no partner: a sentence
    each. `notes` name weights that were added, left out or rounded without changing the function.
    """

    values: Mapping[str, Array]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    notes: tuple[str, ...]


def convert_weights(
    alignment: Alignment,
    source: Graph,
    target: Graph,
    values: Mapping[str, Array],
    own: Mapping[str, Array],
) -> ConvertedWeights:
    """Return all weights of `target` with the values of `source`.

    `values` are the weights of the source, `own` those of the target, by name in their own axes.
    `alignment` pairs the source, its reference, with the target. A bias or scale that one model
    lacks is 0 or 1 in the other. Every weight of the source is compared with what the target's give
    back through the alignment, bit for bit.
    """
    found: dict[str, Array] = {}
    reasons: dict[str, str] = {}
    for name, pairs in group_weight_pairs(alignment, values, own).items():
        try:
            found[name] = transfer_group(pairs, values, own[name])
        except WeightError as error:
            reasons[name] = str(error)
    folded = {*alignment.folded_parameters[0], *alignment.folded_parameters[1]}
    filled = {} if len(found) == len(own) else _fill_neutral(alignment, source, target, own, found)
    found |= filled
    missing = [
        reasons.get(name) or _describe_unpaired(name, own[name], target, folded)
        for name in own
        if name not in found
    ]
    surplus, dropped, rounded = _check_source(alignment, source, values, found, folded)
    notes = []
    if filled:
        notes.append(f"added with the value that changes nothing: {_join(list(filled))}")
    if dropped:
        notes.append(f"left out, since their value changes nothing: {_join(dropped)}")
    if rounded:
        notes.append(f"rounded to the dtype of their partner: {_join(rounded)}")
    return ConvertedWeights(found, tuple(missing), tuple(surplus), tuple(notes))


def describe_confidence(alignment: Alignment) -> str:
    """Return a sentence on layers with weights whose pair the values do not confirm, or ""."""
    weighted = [pair for pair in alignment.pairs if pair.weights]
    unsure = [pair for pair in weighted if pair.confidence is not Confidence.SURE]
    if not unsure:
        return ""
    named = [f"{pair.weights[0].reference} with {pair.weights[0].other}" for pair in unsure]
    return (
        f"{len(unsure)} of {len(weighted)} layers with weights are paired by structure alone, "
        f"and their values do not confirm it: {_join(named)}"
    )


def _fill_neutral(
    alignment: Alignment,
    source: Graph,
    target: Graph,
    own: Mapping[str, Array],
    found: Mapping[str, Array],
) -> dict[str, Array]:
    """Return neutral values of the target's weights for which the source's layer has no role."""
    filled = {}
    for pair in alignment.pairs:
        roles = _roles([source.by_id[each] for each in pair.reference])
        for node in (target.by_id[each] for each in pair.other):
            for parameter in node.parameters:
                name, role = parameter.name, parameter.role
                if name in own and name not in found and role in _NEUTRAL and role not in roles:
                    filled[name] = np.full_like(own[name], _NEUTRAL[role])
    return filled


def _check_source(
    alignment: Alignment,
    source: Graph,
    values: Mapping[str, Array],
    found: Mapping[str, Array],
    folded: set[str],
) -> tuple[list[str], list[str], list[str]]:
    """Return the source's weights that are lost, as sentences, those left out, those rounded."""
    roles = {p.name: p.role for node in source.nodes for p in node.parameters}
    summed = {p.reference for p in list_weight_pairs(alignment) if p.transform.term is not None}
    lost, dropped, rounded = [], [], []
    unread = {parameter.name for parameter in source.unused_parameters}
    for parameter in source.parameters:
        name = parameter.name
        # In an ONNX file what no operation reads is a constant, or left over.
        if name not in values or (name in unread and source.framework == "onnx"):
            continue
        value = values[name]
        gathered = gather_weight(alignment, name, found, value.shape)
        if gathered is None:
            neutral = _NEUTRAL.get(roles.get(name, ""))
            if neutral is not None and np.all(value == neutral):
                dropped.append(name)
            else:
                lost.append(_describe_unpaired(name, value, source, folded))
        elif name not in summed and gathered[0].astype(value.dtype).tobytes() != value.tobytes():
            if gathered[0].tobytes() == value.astype(gathered[0].dtype).tobytes():
                rounded.append(name)
            else:
                lost.append(f"{name}: its partner {gathered[1]} has the values of another weight")
    return lost, dropped, rounded


def _roles(nodes: list[Node]) -> set[str]:
    return {parameter.role for node in nodes for parameter in node.parameters}


def _describe_unpaired(name: str, value: Array, graph: Graph, folded: set[str]) -> str:
    text = f"{name} {value.shape}"
    if name in {parameter.name for parameter in graph.unused_parameters}:
        return f"{text}, which no operation of this run reads"
    return f"{text}, which is folded into another weight" if name in folded else text


def _join(names: list[str]) -> str:
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest} more" if rest > 0 else "")
