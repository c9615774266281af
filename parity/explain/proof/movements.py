"""Chains of operations that only move values: where each takes every value from.

Such a chain is one unit, in whatever operations it is written. Its map from its values to those it
reads is measured: the tensors that it reads are replaced by numbers that tell each value from all
others. A second set of such numbers shows that nothing but their places was changed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parity.explain.proof.region import Array, Matches, Region, agree, rearrange
from parity.network import kinds
from parity.network.graph import OPAQUE, Node

MAX_CODED = 1 << 20
"""The values of the tensors that a chain reads up to which they are told apart."""

MAX_CHAIN = 24
"""The operations of a chain."""

MAX_EXCHANGED = 64
"""The places of one axis that may hold each other's values."""

Codes = tuple[Array, Array]
"""The numbers that stand in the place of a tensor's values, on both inputs."""


@dataclass(frozen=True)
class Chain:
    """Operations that only move values, and the tensors that they read."""

    nodes: tuple[Node, ...]
    ends: tuple[str, ...]


@dataclass(frozen=True)
class Places:
    """Where each value of a tensor is taken from, as `codes` of the values of `ends`; 0 for none.

    The codes count the values of all ends from 1 on, in the reference's axes.
    """

    codes: NDArray[np.int64]
    ends: tuple[tuple[str, tuple[int, ...]], ...]
    """The reference's tensors and their shapes."""

    def count_differences(self, other: Places) -> int:
        """Return how many indices differ between where values of two tensors are from."""
        if len(self.ends) > 1:
            return int((self.codes != other.codes).sum())
        shape = (*self.ends[0][1], 1)
        places = [np.stack(np.unravel_index(np.maximum(each.codes - 1, 0), shape))
                  for each in (self, other)]  # fmt: skip
        return int((places[0] != places[1]).sum() + ((self.codes == 0) != (other.codes == 0)).sum())

    def find(self, code: int) -> tuple[int, tuple[int, ...]]:
        """Return the place of a code: the number of its end, and its index there.

        Raises `ValueError` for a code that no end has.
        """
        left = code - 1
        for number, (_, shape) in enumerate(self.ends):
            size = math.prod(shape)
            if 0 <= left < size:
                return number, tuple(int(i) for i in np.unravel_index(left, shape))
            left -= size
        raise ValueError(f"no value has the code {code}")


@dataclass(frozen=True)
class Movement:
    """Two chains that read the same tensors and give their values in another order."""

    reference: Chain
    subject: Chain
    wanted: Places
    own: Places
    order: tuple[int, ...] = ()
    """The order of the subject's axes in which it is in the reference's."""


def read_chain(region: Region, tensor: str, is_input: Collection[str]) -> Chain | None:
    """Return the operations that only move values and end at a tensor; None if they are too many.

    They begin at the tensors of `is_input`, and at those that another operation makes.
    """

    def ends_at(each: str, node: Node) -> bool:
        is_known = each in is_input and each != tensor and not _is_reshape_of(node, is_input)
        return is_known or not moves_values(region, node)

    nodes, ends = region.collect(
        tensor, ends_at, lambda node: node.inputs[:1] if node.kind == "gather" else node.inputs
    )
    return Chain(nodes, ends) if len(nodes) <= MAX_CHAIN else None


def moves_values(region: Region, node: Node) -> bool:
    """Return whether an operation may do no more than move values: `measure_places` shows it."""
    if not node.inputs or node.parameters:
        return False
    if node.kind == OPAQUE:
        known = [region.values[0][each] for each in node.inputs if each in region.values[0]]
        output = region.values[0].get(node.outputs[0])
        if output is None or len(known) < len(node.inputs) or output.size > MAX_CODED:
            return False
        read = np.concatenate([each.reshape(-1) for each in known])
        return read.size > 1 and bool(np.isin(output, read).all())
    kind = kinds.properties(node.kind)
    return kind.passive or kind.moves_values or kind.returns_input or kind.rearranges


def _is_reshape_of(node: Node, tensors: Collection[str]) -> bool:
    """Return whether an operation only gives one of some tensors another shape."""
    keeps_order = node.kind != OPAQUE and kinds.properties(node.kind).keeps_order
    return keeps_order and node.inputs[0] in tensors


def pair_ends(
    matches: Matches, reference: Chain, subject: Chain
) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """Return the subject's tensor of each that the reference's chain reads, and its order of axes.

    None if either chain reads another one.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for end in reference.ends:
        known = [
            (other, order)
            for other in subject.ends
            for order in [matches.find_order(end, other)]
            if order is not None
        ]
        if not known:
            return None
        found[end] = known[0]
    read = {other for other, _ in found.values()}
    return found if read == set(subject.ends) else None


def code_ends(
    region: Region, other: Region, ends: Mapping[str, tuple[str, tuple[int, ...]]]
) -> tuple[dict[str, Codes], dict[str, Codes], Places] | None:
    """Return numbers in the place of the tensors that two chains read, for either side.

    The codes of the result are all of them, as the reference has them. None if they are too many.
    """
    shapes = tuple((end, region.values[0][end].shape) for end in ends)
    total = sum(math.prod(shape) for _, shape in shapes)
    if total > MAX_CODED:
        return None
    second = draw_second(total)
    sides: tuple[dict[str, Codes], dict[str, Codes]] = ({}, {})
    at = 1
    for end, shape in shapes:
        size = math.prod(shape)
        codes = np.arange(at, at + size, dtype=np.float64).reshape(shape)
        sides[0][end] = codes, second[codes.astype(np.int64)]
        partner, order = ends[end]
        own = other.values[0][partner].shape
        moved = rearrange(np.arange(size, dtype=np.float64).reshape(own), order, shape)
        flat = np.empty(size)
        flat[moved.reshape(-1).astype(np.int64)] = codes.reshape(-1)
        turned = flat.reshape(own)
        sides[1][partner] = turned, second[turned.astype(np.int64)]
        at += size
    return *sides, Places(np.arange(1, at), shapes)


def draw_second(count: int) -> Array:
    """Return the second number of each code: of both signs, no whole number, 0 for the code 0."""
    rng = np.random.default_rng(count)
    return np.concatenate([[0.0], rng.permutation(count) - count // 2 + 0.5])


def read_places(first: Array, second: Array, known: Places) -> Places | None:
    """Return where the values of a tensor are from; None if it holds more than moved values."""
    total = known.codes.size
    with np.errstate(invalid="ignore"):
        codes = np.where(np.isfinite(first), first, -1.0).round().astype(np.int64)
    if codes.min(initial=0) < 0 or codes.max(initial=0) > total or not (codes == first).all():
        return None
    if not (draw_second(total)[codes] == second).all():
        return None
    return Places(codes, known.ends)


def find_exchanged_parts(
    wanted: Sequence[Array], own: Sequence[Array]
) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
    """Return the axis and places at which tensors hold what others have at other places of it.

    As (axis, places, places in `wanted`), the same in all pairs of tensors of one shape. None where
    that is not so for one axis, or for more than one order.
    """
    for axis in range(wanted[0].ndim):
        rows = [[np.moveaxis(each, axis, 0) for each in side] for side in (wanted, own)]
        count = wanted[0].shape[axis]
        differing = [
            at for at in range(count)
            if not all(agree(a[at], b[at]) for a, b in zip(*rows, strict=True))
        ]  # fmt: skip
        if not 1 < len(differing) <= MAX_EXCHANGED:
            continue
        taken = [
            [place for place in differing
             if all(agree(a[place], b[at]) for a, b in zip(*rows, strict=True))]
            for at in differing
        ]  # fmt: skip
        if all(len(each) == 1 for each in taken):
            places = tuple(each[0] for each in taken)
            if sorted(places) == differing:
                return axis, tuple(differing), places
    return None


# In words -----------------------------------------------------------------------------------------


def describe_order(wanted: Places, own: Places, names: Sequence[str]) -> str | None:
    """Return how the places of two tensors of one shape differ; None where they do not.

    `names` are those of the ends.
    """
    if wanted.codes.shape != own.codes.shape or (wanted.codes == own.codes).all():
        return None
    return (
        _describe_axis(wanted, own, names)
        or _describe_factors(wanted, own, names)
        or _describe_example(wanted, own, names)
    )


def _describe_axis(wanted: Places, own: Places, names: Sequence[str]) -> str | None:
    """Return how two maps differ that take every axis of one tensor by itself."""
    if len(wanted.ends) != 1:
        return None
    shape = wanted.ends[0][1]
    maps = [_split_axes(each.codes, shape) for each in (wanted, own)]
    if maps[0] is None or maps[1] is None:
        return None
    differing = [
        (axis, a, b)
        for (axis, a), (other, b) in zip(maps[0], maps[1], strict=True)
        if axis != other or a != b
    ]
    if len(differing) != 1 or maps[0] is None:
        return None
    axis, first, second = differing[0]
    texts = [_name_order(each, shape[axis]) for each in (second, first)]
    return f"it takes {texts[0]}, not {texts[1]}, along axis {axis} of {names[0]}"


def _split_axes(
    codes: NDArray[np.int64], shape: tuple[int, ...]
) -> list[tuple[int, tuple[int, ...]]] | None:
    """Return what each axis of a tensor takes of which axis of another; None if they are mixed.

    Every axis longer than 1, and those of length 1 that take all of theirs.
    """
    if codes.size == 0 or codes.min() < 1:
        return None
    index = np.stack(np.unravel_index(codes - 1, shape))
    found: list[tuple[int, tuple[int, ...]]] = []
    rebuilt = np.empty_like(index)
    rebuilt[...] = _take_first(index)
    for axis, length in enumerate(codes.shape):
        line = _take_line(index, axis)
        changing = np.flatnonzero((line != line[:, :1]).any(axis=1))
        if len(changing) > 1:
            return None
        if len(changing) == 1:
            source = int(changing[0])
            places = line[source]
            found.append((source, tuple(int(place) for place in places)))
            view = [1] * codes.ndim
            view[axis] = length
            rebuilt[source] = places.reshape(view)
    sources = [axis for axis, _ in found]
    if len(set(sources)) < len(sources) or not (rebuilt == index).all():
        return None
    return found


def _take_first(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place that the first value of a result has, with axes of length 1 behind."""
    for axis in range(1, index.ndim):
        index = index.take([0], axis=axis)
    return index


def _take_line(index: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Return the places along one axis of a result, whose first axis tells the axes apart."""
    for other in range(index.ndim - 1):
        index = index if other == axis else index.take([0], axis=other + 1)
    return index.reshape(index.shape[0], -1)


def _name_order(places: tuple[int, ...], length: int) -> str:
    """Return what is taken of an axis, in words."""
    count = len(places)
    if places == tuple(range(count)):
        return "0, 1, 2, …" if count > 3 else ", ".join(map(str, places))
    if count == length > 1 and places == tuple(range(count))[::-1]:
        return "the reverse"
    if length > 1 and count > length and count % length == 0:
        times = count // length
        if places == tuple(range(length)) * times:
            return f"all {times} times in turn"
        if places == tuple(i for i in range(length) for _ in range(times)):
            return f"each {times} times"
    shown = ", ".join(map(str, places[:4]))
    return f"{shown}, …" if count > 4 else shown


Factor = tuple[int, int, int]
"""A part of an axis: its length, the axis that it is taken of, and by which steps."""


def _describe_factors(wanted: Places, own: Places, names: Sequence[str]) -> str | None:
    """Return which parts of an axis become which axes, where two maps differ in that alone."""
    if len(wanted.ends) != 1:
        return None
    shape = wanted.ends[0][1]
    digits = [_list_digits(each.codes, shape) for each in (wanted, own)]
    if digits[0] is None or digits[1] is None:
        return None
    texts = []
    for axis in range(len(shape)):
        parts = [sorted(each.get(axis, ()), reverse=True) for each in digits if each is not None]
        first, second = ([(out, length) for _, out, length in each] for each in parts)
        if parts[0] != parts[1] and first == second:
            shown = [_list_taken(each.codes, shape, axis) for each in (own, wanted)]
            texts.append(f"it takes {shown[0]}, not {shown[1]}, along axis {axis} of {names[0]}")
        elif first != second:
            mine, other = (_name_parts(each) for each in (second, first))
            texts.append(f"it reads axis {axis} of {names[0]} as {mine}, not as {other}")
    return "; ".join(texts) or None


def _list_taken(codes: NDArray[np.int64], shape: tuple[int, ...], axis: int) -> str:
    """Return the first places along an axis that are taken, in their order."""
    places = np.unravel_index(codes.reshape(-1) - 1, shape)[axis]
    return _name_order(tuple(int(each) for each in dict.fromkeys(places.tolist())), 0)


def _name_parts(parts: Sequence[tuple[int, int]]) -> str:
    """Return the (axis of the result, length) of the parts of an axis in words."""
    if not parts:
        return "one value"
    if len(parts) == 1:
        return f"axis {parts[0][0]} of the result"
    product = " × ".join(str(length) for _, length in parts)
    return f"{product} (axes {', '.join(str(out) for out, _ in parts)} of the result)"


def _list_digits(
    codes: NDArray[np.int64], shape: tuple[int, ...]
) -> dict[int, list[tuple[int, int, int]]] | None:
    """Return the parts of each axis that is read, as (step, axis of the result, length).

    None where the axes of the result are no products of such parts.
    """
    if codes.size == 0 or codes.min() < 1:
        return None
    index = np.stack(np.unravel_index(codes - 1, shape)).astype(np.int64)
    rebuilt = np.zeros_like(index) + _take_first(index)
    found: dict[int, list[tuple[int, int, int]]] = {}
    for axis in range(codes.ndim):
        line = _take_line(index, axis)
        factors = _factorise(line)
        if factors is None:
            return None
        for length, source, step in factors:
            found.setdefault(source, []).append((step, axis, length))
        view = [len(shape), *(-1 if a == axis else 1 for a in range(codes.ndim))]
        rebuilt += (line - line[:, :1]).reshape(view)
    return found if (rebuilt == index).all() else None


def _factorise(line: NDArray[np.int64]) -> list[Factor] | None:
    """Return the parts of one axis of a result, the innermost first, by the places it takes."""
    length = line.shape[1]
    if length == 1:
        return []
    step = line[:, 1] - line[:, 0]
    moving = np.flatnonzero(step)
    if len(moving) != 1:
        return None
    even = line[:, :1] + step[:, None] * np.arange(length)
    wrong = np.flatnonzero((line != even).any(axis=0))
    run = length if not wrong.size else int(wrong[0])
    while length % run:
        run -= 1
    if run == 1:
        return None
    rest = _factorise(line[:, ::run])
    outer = np.repeat(line[:, ::run], run, axis=1)
    inner = np.tile(step[:, None] * np.arange(run), length // run)
    if rest is None or not (outer + inner == line).all():
        return None
    return [(run, int(moving[0]), int(step[moving[0]])), *rest]


def _describe_example(wanted: Places, own: Places, names: Sequence[str]) -> str | None:
    """Return the first place at which two maps differ, and what is there."""
    at = tuple(int(i) for i in np.argwhere(wanted.codes != own.codes)[0])
    texts = []
    for each in (own, wanted):
        code = int(each.codes[at])
        if code == 0:
            texts.append("0")
            continue
        number, index = each.find(code)
        texts.append(f"that at {list(index)} of {names[number]}")
    return f"the value at {list(at)} is {texts[0]}, not {texts[1]}"
