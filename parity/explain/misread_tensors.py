"""The values of earlier tensors that an operation reads, where two models read different ones.

Slices, splits, transpositions, concatenations and the like only move values. Evaluated on the
places of the values instead of the values themselves, they give the place that each value is from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.layout import channels_first
from parity.comparison.graphs.points import GraphRow
from parity.explain.proof.failing_layer import MisreadTensor
from parity.network import kinds
from parity.network.alignment import infer_axes
from parity.network.graph import Graph
from parity.processes.graph_requests import TensorPoint

Array = NDArray[np.float64]
Places = NDArray[np.float64]
"""For each value of a tensor, its number among the values of its sources, from 1 on."""

MOST_STEPS = 12
"""The longest chain of operations that is followed."""

_SAME = 1e-4
"""The largest difference, relative to the largest value, of tensors that are called the same."""

_BITS_OF_A_PLACE = 10
"""The evidence that a place needs. What picks values, such as a maximum, takes them all from one
place by chance: each value after the first makes that rarer by the number of places."""

MOST_VALUES = 1 << 22
"""The values of all tensors that places are computed of."""


@dataclass(frozen=True)
class Source:
    """A tensor that both models have: its row, and its tensor in either."""

    name: str
    reference: TensorPoint
    subject: TensorPoint


def find_sources(rows: Sequence[GraphRow], reference: str, subject: str) -> list[Source]:
    """Return the rows' tensors as sources."""
    return [Source(row.name, row.tensors[reference], row.tensors[subject]) for row in rows
            if subject in row.tensors and reference in row.tensors]  # fmt: skip


def find_misread(
    sources: Sequence[Source],
    reference: tuple[Graph, str],
    subject: tuple[Graph, str],
    values: Mapping[str, Array],
) -> MisreadTensor | None:
    """Return the sources' values in the subject's tensor, if the reference's tensor has others.

    `reference` and `subject` are a graph and the id of a tensor in it; `values` are the sources of
    the reference by id, in its own axes. The result is channels first. None where either tensor is
    not made of sources by moving values alone, or both have the same values.
    """
    near = find_reach(*reference), find_reach(*subject)
    numbered: list[tuple[str, int, tuple[int, ...]]] = []
    known: tuple[dict[str, Places], dict[str, Places]] = {}, {}
    # The place 0 is that of the zeros of a padding.
    flat, start = [np.zeros(1)], 1
    for source in sources:
        ends = source.reference.tensor, source.subject.tensor
        if ends[0] not in near[0] or ends[1] not in near[1] or ends == (reference[1], subject[1]):
            continue
        value, shape = values.get(ends[0]), subject[0].tensors[ends[1]].shape
        if value is None or math.prod(shape) != value.size or start + value.size > MOST_VALUES:
            continue
        own = np.arange(start, start + value.size, dtype=np.float64).reshape(value.shape)
        known[0][ends[0]] = own
        known[1][ends[1]] = np.asarray(
            source.subject.invert(source.reference.apply(own), shape), np.float64
        )
        numbered.append((source.name, start, value.shape))
        flat.append(value.reshape(-1))
        start += value.size
    wanted = _channels_first(*reference, _follow(*reference, known[0], MOST_STEPS))
    found = _channels_first(*subject, _follow(*subject, known[1], MOST_STEPS))
    if wanted is None or found is None:
        return None
    for each in (wanted, found):
        if not each.size or (each % 1).any() or each.min() < 0 or each.max() >= start:
            return None
    texts = _describe(numbered, wanted, found)
    return None if texts is None else MisreadTensor(np.concatenate(flat)[found.astype(int)], *texts)


def find_other_place(
    graph: Graph, tensor: str, values: Mapping[str, Array], wanted: Array
) -> tuple[str, MisreadTensor] | None:
    """Return the earlier tensor that a subject reads at another place than the reference.

    That tensor need not be one of the reference's: of a recurrent layer that gives every step, the
    reference may have the last alone. `values` are the subject's tensors by id, in its own axes,
    and `wanted` what the reference reads, channels first. The texts have `{}` for the tensor's
    name. None where no other place, or several, along one axis have the values that are wanted, or
    too few of them to be of that place.
    """
    for source in sorted(find_reach(graph, tensor) - {tensor}):
        value = values.get(source)
        if value is None or value.size <= wanted.size:
            continue
        if wanted.size * sum(value.shape) > MOST_VALUES or value.size > MOST_VALUES:
            continue
        own = np.arange(1, value.size + 1, dtype=np.float64).reshape(value.shape)
        read = _channels_first(graph, tensor, _follow(graph, tensor, {source: own}, MOST_STEPS))
        if read is None or read.shape != wanted.shape or not read.size:
            continue
        if (read % 1).any() or read.min() < 1:
            continue
        spots = np.unravel_index(read.astype(int) - 1, value.shape)
        found = value[spots]
        if agree(found, wanted):
            continue
        fitting = [
            (axis, moved)
            for axis, length in enumerate(value.shape)
            for shift in range(-int(spots[axis].min()), length - int(spots[axis].max()))
            if agree(value[moved := _shift(spots, axis, shift)], wanted)
        ]
        if len(fitting) != 1:
            continue
        axis, moved = fitting[0]
        numbers = np.unique(wanted[wanted != 0]).size
        if (numbers - 1) * math.log2(value.shape[axis]) < _BITS_OF_A_PLACE:
            continue
        texts = [_format_run(*_run_along(each[axis])) for each in (spots, moved)]
        return source, MisreadTensor(
            found,
            f"{texts[0]} of axis {axis} of {{}}, where the reference has {texts[1]}",
            f"read {texts[1]} of axis {axis} of {{}}",
        )
    return None


def _shift(
    spots: tuple[NDArray[np.intp], ...], axis: int, shift: int
) -> tuple[NDArray[np.intp], ...]:
    return (*spots[:axis], spots[axis] + shift, *spots[axis + 1 :])


def agree(first: Array | None, second: Array | None) -> bool:
    """Return whether two tensors are the same up to rounding."""
    if first is None or second is None or first.shape != second.shape:
        return False
    return bool(find_agreeing(first, second).all())


def find_agreeing(first: Array, second: Array) -> NDArray[np.bool_]:
    """Return where two tensors of one shape are the same up to rounding of the first's largest."""
    scale = float(np.abs(first).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        return np.abs(first - second) <= _SAME * scale


def _describe(
    numbered: Sequence[tuple[str, int, tuple[int, ...]]], wanted: Places, found: Places
) -> tuple[str, str] | None:
    """Return what the subject reads, and how to read as the reference; None if that is the same."""
    if wanted.shape == found.shape and (wanted == found).all():
        return None
    for name, start, shape in numbered:
        ends = start, start + math.prod(shape)
        inside = [(each >= ends[0]) & (each < ends[1]) for each in (wanted, found)]
        if not all(each.all() for each in inside):
            continue
        spots = [np.unravel_index((each - start).astype(int), shape) for each in (wanted, found)]
        for axis in range(len(shape)):
            read = [_run_along(each[axis]) for each in spots]
            if read[0] != read[1]:
                wanted_text, found_text = (_format_run(*each) for each in read)
                of = f"axis {axis} of {name}"
                return (
                    f"{found_text} of {of}, where the reference has {wanted_text}",
                    f"read {wanted_text} of {of}",
                )
    names = [_name_sources(numbered, each) for each in (wanted, found)]
    if wanted.size == found.size and (np.sort(wanted, None) == np.sort(found, None)).all():
        return (
            f"the values of {names[1]} in another order than the reference",
            f"order the values of {names[0]} as the reference does",
        )
    return f"other values, of {names[1]}", f"read the reference's values of {names[0]}"


def _name_sources(numbered: Sequence[tuple[str, int, tuple[int, ...]]], places: Places) -> str:
    """Return the names of the sources that places are of."""
    return " and ".join(
        name
        for name, start, shape in numbered
        if ((places >= start) & (places < start + math.prod(shape))).any()
    )


def _channels_first(graph: Graph, tensor: str, places: Places | None) -> Places | None:
    if places is None:
        return None
    for rearrangement in channels_first(infer_axes(graph).get(tensor, "")):
        places = np.asarray(rearrangement.apply(places), np.float64)
    return places


def _run_along(spots: NDArray[np.int64]) -> tuple[tuple[int, ...], bool]:
    """Return the places along the last axis with which they change, and whether others do so."""
    axes = [axis for axis in range(spots.ndim) if (spots != np.take(spots, [0], axis)).any()]
    index = tuple(slice(None) if axis in axes[-1:] else 0 for axis in range(spots.ndim))
    return tuple(map(int, np.atleast_1d(spots[index]))), len(axes) > 1


def _format_run(places: Sequence[int], goes_on: bool) -> str:
    return _format_places(places) + (" and so on" if goes_on else "")


def _format_places(places: Sequence[int]) -> str:
    """Write places: `3`, `0 to 15`, `every 2nd of 1 to 15`, `15 down to 0`, `0, 5, 2, …`."""
    if len(places) == 1:
        return str(places[0])
    steps = set(np.diff(places).tolist())
    ends = f"{places[0]} to {places[-1]}"
    if steps == {1}:
        return ends
    if len(steps) == 1 and (step := steps.pop()):
        if step == -1:
            return f"{places[0]} down to {places[-1]}"
        return f"every {abs(step)}{_ORDINALS.get(abs(step), 'th')} of {ends}"
    return ", ".join(map(str, places[:4])) + (", …" if len(places) > 4 else "")


_ORDINALS = {2: "nd", 3: "rd"}


def find_reach(graph: Graph, tensor: str) -> set[str]:
    """Return the tensors that one is made of by moving values alone, itself included."""
    waiting, seen = [(tensor, 0)], {tensor}
    while waiting:
        here, steps = waiting.pop()
        node = graph.producers.get(here)
        if node is None or steps >= MOST_STEPS or not _moves_values(node.kind):
            continue
        for each in node.inputs:
            if each not in seen:
                seen.add(each)
                waiting.append((each, steps + 1))
    return seen


def _follow(graph: Graph, tensor: str, known: Mapping[str, Places], steps: int) -> Places | None:
    """Return the places of a tensor's values, from those of the tensors that it is made of."""
    if tensor in known:
        return known[tensor]
    node = graph.producers.get(tensor)
    if node is None or not steps or not _moves_values(node.kind) or node.constant_ids:
        return None
    inputs = [_follow(graph, each, known, steps - 1) for each in node.inputs]
    if not inputs or any(each is None for each in inputs):
        return None
    hyper = dict(node.hyper)
    if len(node.outputs) > 1:
        hyper["index"] = node.outputs.index(tensor)
    try:
        return kinds.evaluate(node.kind, [each for each in inputs if each is not None], {}, hyper)
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _moves_values(name: str) -> bool:
    kind = kinds.find(name)
    return kind is not None and (
        kind.moves_values or kind.passive or (kind.ordered and kind.joins_branches)
    )
