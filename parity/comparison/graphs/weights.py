"""The weights of aligned models: copied from the reference, compared, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.given_pairs import GivenTable
from parity.comparison.graphs.norm_pairs import pair_norms
from parity.comparison.graphs.state import SubjectModel
from parity.errors import WeightError
from parity.network import alignment as aligning
from parity.network.alignment import Alignment, GivenPair, WeightPair, align

Array = NDArray[Any]


@dataclass(frozen=True)
class WeightDifference:
    """A weight of the other model that differs; `largest` is the largest difference.

    `pair` is the first of the pairs that make it.
    """

    pair: WeightPair
    largest: float
    message: str


def align_models(
    reference: SubjectModel, other: SubjectModel, given: GivenTable | None = None
) -> Alignment:
    """Pair the layers of two models; `AlignmentError` has their names.

    The rows of `given` for the other model are kept. Raises `TableError` for one that names no
    operation.
    """
    names = (reference.subject.name, other.subject.name)
    pairs: list[GivenPair] = []
    column = None if given is None else given.find_column(names[1])
    if given is not None and column is not None:
        pairs = given.find_pairs(column, reference.graph, other.graph, names)
    found = align(reference.graph, other.graph, names=names, given=pairs)
    return pair_norms(reference.graph, other.graph, found)


def transfer_weights(
    alignment: Alignment, reference: Mapping[str, Array], other: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the weights of the other model as the reference has them.

    `other` are its present weights by name, which give the shapes; a weight that is folded, has no
    partner, or does not fit its partner is left out.
    """
    found: dict[str, Array] = {}
    for name, pairs in group_weight_pairs(alignment, reference, other).items():
        try:
            found[name] = transfer_group(pairs, reference, other[name])
        except WeightError:
            continue
    return found


def transfer_group(
    pairs: Sequence[WeightPair], reference: Mapping[str, Array], own: Array
) -> Array:
    """Return the other's weight that `pairs` make of the reference's, in the dtype of `own`.

    Raises `WeightError` if a part has no partner or does not fit.
    """
    shapes = {pairs[0].other: own.shape}
    value = aligning.transfer_weights(pairs, reference.__getitem__, shapes)[pairs[0].other]
    return np.asarray(value, own.dtype, order="C")


def list_weight_pairs(alignment: Alignment) -> list[WeightPair]:
    """Return the pairs of weights in execution order, each once."""
    pairs = [pair for node in alignment.pairs for pair in node.weights]
    return list(dict.fromkeys(pairs))


def group_weight_pairs(
    alignment: Alignment, reference: Mapping[str, Array], other: Mapping[str, Array]
) -> dict[str, list[WeightPair]]:
    """Return, by the other's weight, the pairs that make it, in execution order.

    A weight that several operations share is made by the first of them. One of which a part has
    no partner in the reference is left out.
    """
    groups: dict[str, list[WeightPair]] = {}
    for node in alignment.pairs:
        own: dict[str, list[WeightPair]] = {}
        for pair in node.weights:
            if pair.reference in reference and pair.other in other:
                own.setdefault(pair.other, []).append(pair)
        for name, pairs in own.items():
            known = groups.setdefault(name, [])
            # Parts of a packed weight may belong to several operations of the reference.
            places = {each.transform.place for each in known if not each.transform.term}
            known += [p for p in pairs if not known or p.transform.place not in places]
    return groups


def compare_weights(
    alignment: Alignment, reference: Mapping[str, Array], other: Mapping[str, Array]
) -> list[WeightDifference]:
    """Return the weights of the other model that are not the reference's, bit for bit.

    They are in execution order. Where the other model has two biases whose sum is the reference's
    one, their sum is compared.
    """
    found = []
    groups = group_weight_pairs(alignment, reference, other)
    zeros = _find_zeros(groups)
    for name, pairs in groups.items():
        if name in zeros.values():
            continue
        own = other[name]
        try:
            expected = transfer_group(pairs, reference, own)
        except WeightError as error:
            shape = reference[pairs[0].reference].shape
            message = f"{name}: its shape {own.shape} is not that of {pairs[0].reference}, {shape}"
            if pairs[0].transform.place:
                message = str(error)
            found.append(WeightDifference(pairs[0], float("inf"), message))
            continue
        if name in zeros:
            own = own + other[zeros[name]]
        if not np.array_equal(expected, own, equal_nan=True):
            difference = np.abs(expected.astype(np.float64) - own.astype(np.float64))
            largest = float(np.nanmax(difference)) if difference.size else 0.0
            message = f"{name} differs from {pairs[0].reference} by up to {largest:.1e}"
            found.append(WeightDifference(pairs[0], largest, message))
    return found


def _find_zeros(groups: Mapping[str, Sequence[WeightPair]]) -> dict[str, str]:
    """Return the second bias of recurrent layers, by the first one's name."""
    found = {}
    for name, pairs in groups.items():
        if not all(pair.transform.is_zero for pair in pairs):
            continue
        sources = {pair.reference for pair in pairs}
        for first, others in groups.items():
            if first != name and sources == {pair.reference for pair in others}:
                found[first] = name
    return found


def gather_weight(
    alignment: Alignment, name: str, own: Mapping[str, Array], shape: tuple[int, ...]
) -> tuple[Array, str] | None:
    """Return one of the reference's weights as the other model has it, and its name there.

    `own` are the other's weights, `shape` that of the reference's. None if a part has no partner.
    Raises `WeightError` if the shapes do not fit.
    """
    pairs = [p for p in list_weight_pairs(alignment) if p.reference == name and p.other in own]
    pairs = [pair for pair in pairs if not pair.transform.is_zero]
    if not pairs:
        return None
    first = pairs[0]
    if not first.transform.take:
        return first.transform.invert(own[first.other], shape), first.other
    whole = np.zeros(shape, own[first.other].dtype)
    filled = np.zeros(shape, bool)
    for pair in pairs:
        view, mask = whole, filled
        for each in pair.transform.take:
            view, mask = view[each.index()], mask[each.index()]
        view[...] = pair.transform.invert(own[pair.other], shape).reshape(view.shape)
        mask[...] = True
    return (whole, first.other) if filled.all() else None
