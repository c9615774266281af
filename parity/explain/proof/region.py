"""What a row is computed of on one side, and the tensors that two sides have alike.

A region is the operations behind the nearest tensors that isolation feeds. Two tensors of the
regions are the same if they have the same values on two inputs, in the same order of their axes, or
in the one that both graphs state for them, channels first. In any other order they are not: a
transposition that is left out makes the same values, too.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from parity.network.graph import Graph, Node

Array = NDArray[np.float64]

MAX_OPERATIONS = 160
"""The operations of one side's region up to which it is looked at."""

_MAX_ORDERS = 120
"""The orders of the axes, of up to five of them, that are tried."""

_SAME = 2e-5
"""The largest difference, relative to the largest value, of tensors that are called the same: those
of one side were computed in float32."""

_LEAST_HIDDEN = 1e3
"""The smallest size of the negative number that masks hide scores with."""

_HIDDEN_SHARE, _SHOWN_SHARE = 0.5, 0.1
"""Beside that number, hidden scores are at least the one and the others at most the other share."""

_SAME_SUMS = 1e-4
"""The largest relative difference of sums over the values of tensors that may be the same."""


@dataclass(frozen=True)
class Region:
    """What one side computes a row's tensor of, and its values on two inputs.

    `fed` are the tensors that are known to be the same on both sides: the region ends there.
    `values` are by tensor, in the side's own axes, and hold tables of constants too.
    """

    graph: Graph
    output: str
    fed: frozenset[str]
    values: tuple[Mapping[str, Array], Mapping[str, Array]]
    move_channels: Callable[[str, Array], Array] = lambda tensor, value: value
    """Returns the value of a tensor with its channels first, where the graph states its axes."""

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The operations, in their order; empty if they are too many."""
        found = list_region(self.graph, self.output, self.fed)
        return () if found is None else found

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that the operations read and give, in their order."""
        read = [tensor for node in self.nodes for tensor in (*node.inputs, *node.outputs)]
        return tuple(dict.fromkeys(read))

    def is_input(self, tensor: str) -> bool:
        """Return whether the region ends at a tensor, and is not the row's own."""
        return tensor != self.output and (
            tensor in self.fed or self.graph.producers.get(tensor) is None
        )

    def find_producer(self, tensor: str) -> Node | None:
        """Return the operation of the region that makes a tensor; None at its end."""
        return None if self.is_input(tensor) else self.graph.producers.get(tensor)

    def collect(
        self,
        tensor: str,
        ends_at: Callable[[str, Node], bool],
        read: Callable[[Node], Sequence[str]] = lambda node: node.inputs,
    ) -> tuple[tuple[Node, ...], tuple[str, ...]]:
        """Return the operations that lead to a tensor, in the graph's order, and where they begin.

        They begin at the tensors that no operation of the region makes, and where `ends_at` says so
        of a tensor and its producer; `read` gives the inputs of an operation that are followed.
        """
        nodes: dict[str, Node] = {}
        ends: dict[str, None] = {}
        waiting = [tensor]
        while waiting:
            each = waiting.pop()
            node = self.find_producer(each)
            if node is None or ends_at(each, node):
                ends[each] = None
            elif node.id not in nodes:
                nodes[node.id] = node
                waiting += read(node)
        return tuple(node for node in self.graph.nodes if node.id in nodes), tuple(ends)


def list_region(graph: Graph, output: str, fed: Collection[str]) -> tuple[Node, ...] | None:
    """Return the operations from the nearest fed tensors to `output`; None if too many."""
    found: dict[str, Node] = {}
    waiting = [output]
    while waiting:
        tensor = waiting.pop()
        node = graph.producers.get(tensor)
        if node is None or node.id in found or (tensor in fed and tensor != output):
            continue
        found[node.id] = node
        if len(found) > MAX_OPERATIONS:
            return None
        waiting += node.inputs
    return tuple(node for node in graph.nodes if node.id in found)


def agree(first: Array, second: Array) -> bool:
    """Return whether two tensors of one shape are the same up to rounding in float32.

    What a mask hides by a large negative number says nothing of the rounding of the rest.
    """
    if first.shape != second.shape:
        return False
    with np.errstate(invalid="ignore"):
        same = np.where(first == second, 0.0, np.abs(first - second))
        sizes = np.where(np.isfinite(first), np.abs(first), 0.0)
        scale = float(sizes.max(initial=0.0))
        if not (same <= _SAME * scale).all():
            return False
        shown = first > -_HIDDEN_SHARE * scale
        if scale < _LEAST_HIDDEN or shown.all():
            return True
        rest = float(sizes[shown].max(initial=0.0))
        is_gap = rest <= _SHOWN_SHARE * scale
        return not is_gap or bool((same[shown] <= _SAME * rest).all())


def agree_with_merged_axes(first: Array, second: Array, *, exact: bool = False) -> bool:
    """Return whether two tensors are the same, the one with some neighbouring axes as one.

    With `exact` every number is equal; else rounding in float32 is nothing.
    """
    if first.size != second.size:
        return False
    steps = [set(itertools.accumulate(each.shape, operator.mul)) for each in (first, second)]
    if not (steps[0] <= steps[1] or steps[1] <= steps[0]) and first.shape != second.shape:
        return False
    moved = second.reshape(first.shape)
    return np.array_equal(first, moved, equal_nan=True) if exact else agree(first, moved)


def list_orders(source: Sequence[int], target: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the orders of a tensor's axes with which it has the lengths of another, but for 1s."""
    wanted = [length for length in target if length != 1]
    axes = [axis for axis, length in enumerate(source) if length != 1]
    units = [axis for axis, length in enumerate(source) if length == 1]
    if len(axes) > 5 or sorted(source[axis] for axis in axes) != sorted(wanted):
        return
    for order in itertools.islice(itertools.permutations(axes), _MAX_ORDERS):
        if [source[axis] for axis in order] == wanted:
            yield (*order, *units)


def rearrange(value: Array, order: Sequence[int], shape: Sequence[int]) -> Array:
    """Return a tensor with its axes in another order and a shape of as many values.

    An empty order only changes the shape.
    """
    return (value.transpose(order) if len(order) else value).reshape(shape)


def list_arrangements(source: Sequence[int], target: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the orders of axes with which a tensor may have another's shape, () for a reshape."""
    if math.prod(source) != math.prod(target):
        return []
    return [*list_orders(source, target), ()]


class Matches:
    """The tensors of two regions that have the same values on both inputs."""

    def __init__(self, reference: Region, subject: Region, rows: Mapping[str, str]) -> None:
        """`rows` are tensors that are known to be the same: the subject's by the reference's."""
        self._regions = reference, subject
        self.to_subject: dict[str, list[str]] = {}
        self.to_reference: dict[str, list[str]] = {}
        self.orders: dict[tuple[str, str], tuple[int, ...]] = {}
        """By a pair of tensors, the order of the subject's axes longer than 1 in the reference."""
        self._rows = {(one, other) for one, other in rows.items()}
        self._summaries: dict[tuple[int, str], tuple[float, ...]] = {}
        self._turned: tuple[set[str], set[str]] | None = None
        buckets: dict[int, list[str]] = {}
        for tensor in dict.fromkeys((*subject.tensors, *rows.values())):
            if tensor in subject.values[0]:
                buckets.setdefault(subject.values[0][tensor].size, []).append(tensor)
        inner = {*reference.tensors}, {*subject.tensors}
        for tensor in dict.fromkeys((*reference.tensors, *rows)):
            if tensor not in reference.values[0]:
                continue
            for other in buckets.get(reference.values[0][tensor].size, ()):
                is_near = tensor in inner[0] or other in inner[1]
                if (is_near or rows.get(tensor) == other) and self._is_same(tensor, other):
                    self.to_subject.setdefault(tensor, []).append(other)
                    self.to_reference.setdefault(other, []).append(tensor)

    def find_order(self, tensor: str, other: str) -> tuple[int, ...] | None:
        """Return the order of the subject's axes in which two tensors are the same, in any at all.

        `()` is for a reshape. None where they are not, or have no values that tell their places.
        """
        reference, subject = self._regions
        known = [
            (mine[tensor], own[other])
            for mine, own in zip(reference.values, subject.values, strict=True)
            if tensor in mine and other in own
        ]
        if len(known) < 2 or known[0][0].size != known[0][1].size:
            return None
        is_known = other in self.to_subject.get(tensor, ())
        if not is_known and (np.ptp(known[0][0]) == 0 or not self._may_be_same(tensor, other)):
            return None
        for order in list_preferred(known[0][1].shape, known[0][0].shape):
            if all(agree(a, rearrange(b, order, a.shape)) for a, b in known):
                return order
        return None

    def find_turned(self) -> tuple[set[str], set[str]]:
        """Return the tensors of either region that the other has too, in any order of axes."""
        if self._turned is None:
            found: tuple[set[str], set[str]] = (set(), set())
            outputs = [each.output for each in self._regions]
            for tensor in self._regions[0].tensors:
                for other in self._regions[1].tensors:
                    if [tensor, other] != outputs and self.find_order(tensor, other) is not None:
                        found[0].add(tensor)
                        found[1].add(other)
            self._turned = found
        return self._turned

    def _is_same(self, tensor: str, other: str) -> bool:
        """Return whether two tensors are the same, and keep the order of axes in which they are."""
        reference, subject = self._regions
        if (tensor, other) == (reference.output, subject.output):
            # They differ, or there is nothing to explain.
            return False
        pairs = [
            (known[tensor], own[other])
            for known, own in zip(reference.values, subject.values, strict=True)
            if tensor in known and other in own
        ]
        is_row = (tensor, other) in self._rows
        if len(pairs) < 2:
            return is_row
        if not is_row and not (
            self._may_be_same(tensor, other) and self._agrees_in_stated_order(tensor, other)
        ):
            return False
        first, second = pairs[0]
        for order in list_preferred(second.shape, first.shape):
            if all(agree(a, rearrange(b, order, a.shape)) for a, b in pairs):
                self.orders[tensor, other] = rank_axes(order, second.shape)
                return True
        return is_row

    def _agrees_in_stated_order(self, tensor: str, other: str) -> bool:
        """Return whether two tensors are the same in one order of axes, and by more than one value.

        A mask of ones may be anything, unless it is what both sides are given.
        """
        reference, subject = self._regions
        known, own = reference.values, subject.values
        is_given = reference.is_input(tensor) and subject.is_input(other)
        if not is_given and known[0][tensor].size > 1 and np.ptp(known[0][tensor]) == 0:
            return False
        plain = all(
            agree_with_merged_axes(a[tensor], b[other]) for a, b in zip(known, own, strict=True)
        )
        if plain or reference.graph.framework == subject.graph.framework:
            return plain
        return all(
            agree_with_merged_axes(
                reference.move_channels(tensor, a[tensor]), subject.move_channels(other, b[other])
            )
            for a, b in zip(known, own, strict=True)
        )

    def _may_be_same(self, tensor: str, other: str) -> bool:
        """Return whether two tensors may have the same values in some order, by a few sums."""
        return all(
            math.isclose(one, two, rel_tol=_SAME_SUMS, abs_tol=1e-30)
            for one, two in zip(self._summarise(0, tensor), self._summarise(1, other), strict=True)
        )

    def _summarise(self, side: int, tensor: str) -> tuple[float, ...]:
        """Return sums over the values of a tensor that do not depend on their order."""
        if (side, tensor) not in self._summaries:
            found: list[float] = []
            for values in self._regions[side].values:
                value = values[tensor]
                finite = value[np.isfinite(value)]
                found += [value.size - finite.size, np.abs(finite).sum(), (finite**2).sum()]
            self._summaries[side, tensor] = tuple(map(float, found))
        return self._summaries[side, tensor]


def list_preferred(source: Sequence[int], target: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the orders of axes with which a tensor may have another's shape, its own one first."""
    orders = list_arrangements(source, target)
    own = tuple(range(len(source)))
    return [own, *orders] if tuple(source) == tuple(target) else orders


def rank_axes(order: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Return an order of axes among those that are longer than 1."""
    axes = [axis for axis in order if shape[axis] != 1]
    return tuple(sorted(axes).index(axis) for axis in axes)
