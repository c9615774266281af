"""The smallest operations in which two graphs differ before a row, and what they are in words.

A region is what a row is computed of: the operations behind the nearest tensors that isolation
feeds. Two tensors of the regions are the same if they have the same values on two inputs, in any
order of their axes. From the row's tensor backwards, operations that do the same are passed by;
what remains between them and tensors that are the same is a fragment of either side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import kinds
from parity.network.graph import OPAQUE, Graph, Node

Array = NDArray[np.float64]

MAX_OPERATIONS = 160
"""The operations of one side's region up to which it is looked at."""

MAX_NAMED = 5
"""The operations of one side up to which a difference is stated: more of them say nothing."""

MAX_EDITS = 4
"""The differences of one row up to which they are told apart."""

MAX_FIRST = 6
"""The pairs of tensors at which two sides may begin to differ that are looked at."""

_MAX_ORDERS = 120
"""The orders of the axes, of up to five of them, that are tried."""

_SAME = 2e-5
"""The largest difference, relative to the largest value, of tensors that are called the same: those
of one side were computed in float32."""

_SAME_SUMS = 1e-4
"""The largest relative difference of sums over the values of tensors that may be the same."""

_SAME_NUMBER = 1e-6
"""The largest relative difference of numbers that are called the same: float32 holds them."""


@dataclass(frozen=True)
class SettingDifference:
    """A setting of two operations of one kind that differs, or a number that they read."""

    name: str
    value: str
    expected: str


Compare = Callable[[Node, Node], Sequence[SettingDifference]]
"""Returns the settings in which an operation of the subject, the second one, differs from one of
the reference of its kind."""


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

    def is_end(self, tensor: str) -> bool:
        """Return whether the region ends at a tensor, and is not the row's own."""
        return tensor != self.output and (
            tensor in self.fed or self.graph.producers.get(tensor) is None
        )

    def find_producer(self, tensor: str) -> Node | None:
        """Return the operation of the region that makes a tensor; None at its end."""
        return None if self.is_end(tensor) else self.graph.producers.get(tensor)


@dataclass(frozen=True)
class Edit:
    """A tensor of the reference's region that the subject has otherwise: its own `subject`.

    An empty one stands for zeros: the subject's recurrent layer `reader` has no such first state.
    """

    reference: str
    subject: str
    reader: str = ""


class Form(Enum):
    """The form of a difference."""

    LEFT_OUT = auto()
    """Operations that the reference alone has."""
    ADDED = auto()
    """Operations that the subject alone has."""
    OTHER = auto()
    """Operations in the place of others."""
    SETTING = auto()
    """A setting, or a constant, of one operation."""
    TENSOR = auto()
    """Another tensor that is read."""
    STATE = auto()
    """A recurrent layer's first state that is not given."""


@dataclass(frozen=True)
class Statement:
    """A difference in words, as a sentence without its full stop, and the remedy."""

    form: Form
    text: str
    remedy: str


@dataclass(frozen=True)
class RegionProof:
    """The differences of a region that were proved, and what the reference gives with them."""

    statements: tuple[Statement, ...]
    output: Array
    method: str
    """How they were proved, as the beginning of a sentence."""


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


# Tensors that are the same ------------------------------------------------------------------------


def agree(first: Array, second: Array) -> bool:
    """Return whether two tensors of one shape are the same up to rounding in float32."""
    if first.shape != second.shape:
        return False
    with np.errstate(invalid="ignore"):
        same = np.where(first == second, 0.0, np.abs(first - second))
        scale = float(np.abs(first[np.isfinite(first)]).max(initial=0.0))
        return bool((same <= _SAME * scale).all())


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
        if not is_row and not self._may_be_same(tensor, other):
            return False
        first, second = pairs[0]
        for order in _list_preferred(second.shape, first.shape):
            if all(agree(a, rearrange(b, order, a.shape)) for a, b in pairs):
                self.orders[tensor, other] = _rank_axes(order, second.shape)
                return True
        return is_row

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


def _list_preferred(source: Sequence[int], target: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the orders of axes with which a tensor may have another's shape, its own one first."""
    orders = list_arrangements(source, target)
    own = tuple(range(len(source)))
    return [own, *orders] if tuple(source) == tuple(target) else orders


def _rank_axes(order: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Return an order of axes among those that are longer than 1."""
    axes = [axis for axis in order if shape[axis] != 1]
    return tuple(sorted(axes).index(axis) for axis in axes)


# The walk from the row's tensor backwards ---------------------------------------------------------


@dataclass
class Walk:
    """Finds where two regions differ."""

    reference: Region
    subject: Region
    matches: Matches
    compare: Compare
    groups: Mapping[str, tuple[Collection[str], Collection[str]]]
    """The operations that are paired as one, of either side, by each of the reference's."""

    def list_hypotheses(self) -> list[tuple[Edit, ...]]:
        """Return sets of edits that may make the reference's region the subject's.

        The smallest fragments come first; then those of fewer operations that are passed by.
        """
        found: list[tuple[Edit, ...]] = []
        for depth in (64, 32, 16, 8, 6, 5, 4, 3, 2, 1, 0):
            edits = tuple(dict.fromkeys(
                self._walk(self.reference.output, self.subject.output, depth)))  # fmt: skip
            if edits and len(edits) <= MAX_EDITS and edits not in found:
                found.append(edits)
        return found

    def _walk(self, one: str, other: str, depth: int) -> list[Edit]:
        if other in self.matches.to_subject.get(one, ()):
            return []
        edit = [Edit(one, other)]
        if depth <= 0 or self._is_known(one, other):
            return edit
        first, second = self.reference.find_producer(one), self.subject.find_producer(other)
        if first is None or second is None:
            return edit
        if _is_passed(first) and not _is_passed(second):
            return self._walk(first.inputs[0], other, depth)
        if _is_passed(second) and not _is_passed(first):
            return self._walk(one, second.inputs[0], depth)
        pairs = self._pair_group(first, second)
        if pairs is None:
            if not _are_equivalent(first, second) or self.compare(first, second):
                return edit
            if kinds.properties(first.kind).recurrent:
                states = self._find_missing_states(first, second)
                if states:
                    return states
            pairs = self.pair_inputs(first, second)
        if pairs is None:
            return edit
        below = [each for pair in pairs for each in self._walk(*pair, depth - 1)]
        return below or edit

    def _pair_group(self, first: Node, second: Node) -> list[tuple[str, str]] | None:
        """Return what two groups that compute the same read, where that is no pair of equals.

        Such as a dense layer, and a product and a sum. None for no groups.
        """
        ids = self.groups.get(first.id)
        if ids is None or first.id not in ids[0] or second.id not in ids[1]:
            return None
        if len(ids[0]) == len(ids[1]) == 1:
            return None
        sides = self.reference.graph, self.subject.graph
        read = []
        for graph, own in zip(sides, ids, strict=True):
            nodes = [node for node in graph.nodes if node.id in own]
            made = {tensor for node in nodes for tensor in node.outputs}
            every = dict.fromkeys(tensor for node in nodes for tensor in node.inputs)
            read.append([tensor for tensor in every if tensor not in made])
        left = [t for t in read[1] if not set(self.matches.to_reference.get(t, ())) & set(read[0])]
        rest = [t for t in read[0] if not set(self.matches.to_subject.get(t, ())) & set(read[1])]
        return [(rest[0], left[0])] if len(rest) == len(left) == 1 else None

    def _find_missing_states(self, first: Node, second: Node) -> list[Edit]:
        """Return the first states of the reference's recurrent layer that the subject's has not."""
        if len(first.inputs) <= len(second.inputs) or len(second.inputs) != 1:
            return []
        if second.inputs[0] not in self.matches.to_subject.get(first.inputs[0], ()):
            return []
        return [Edit(tensor, "", second.id) for tensor in first.inputs[1:]]

    def is_passed_by(self, edit: Edit) -> bool:
        """Return whether the operations that make an edit's tensors do the same, by themselves."""
        first = self.reference.find_producer(edit.reference)
        second = self.subject.find_producer(edit.subject)
        if first is None or second is None:
            return False
        return _are_equivalent(first, second) and not self.compare(first, second)

    def _is_known(self, one: str, other: str) -> bool:
        """Return whether either tensor is one that the other side has too."""
        return bool(self.matches.to_subject.get(one) or self.matches.to_reference.get(other))

    def pair_inputs(self, first: Node, second: Node) -> list[tuple[str, str]] | None:
        """Return the inputs of two operations that are no pair of equals; None if they differ."""
        if len(first.inputs) != len(second.inputs):
            return None
        pairs = list(zip(first.inputs, second.inputs, strict=True))
        same = [other in self.matches.to_subject.get(one, ()) for one, other in pairs]
        kind = kinds.properties(first.kind)
        commutes = kind.joins_branches and not kind.ordered
        if not commutes or all(same):
            return [pair for pair, is_same in zip(pairs, same, strict=True) if not is_same]
        left, rest = list(second.inputs), []
        for one in first.inputs:
            partner = next((o for o in left if o in self.matches.to_subject.get(one, ())), None)
            if partner is None:
                rest.append(one)
            else:
                left.remove(partner)
        # Of those that differ the nearest in their makers are a pair.
        if len(rest) == 2 and not self._is_likely(rest[0], left[0]):
            left.reverse()
        return list(zip(rest, left, strict=True))

    def _is_likely(self, one: str, other: str) -> bool:
        first, second = self.reference.find_producer(one), self.subject.find_producer(other)
        if first is None or second is None:
            return first is second
        return first.kind == second.kind

    def find_reader(self, tensor: str) -> Node | None:
        """Return the subject's first operation in the region that reads a tensor, not a reshape."""
        readers = [node for node in self.subject.nodes if tensor in node.inputs]
        for node in readers:
            if not _is_passed(node):
                return node
        below = (self.find_reader(node.outputs[0]) for node in readers)
        return next((node for node in below if node is not None), None)

    # What is left -------------------------------------------------------------------------------

    def read_fragments(self, edit: Edit) -> tuple[Fragment, Fragment]:
        """Return what either side computes between tensors that both have and the edit's."""
        return (
            _read_fragment(self.reference, edit.reference, self.matches.to_subject),
            _read_fragment(self.subject, edit.subject, self.matches.to_reference),
        )

    def arrange(self, edit: Edit) -> tuple[Array, Array] | None:
        """Return the subject's tensor of an edit, on both inputs, in the reference's axes.

        Of several orders of the axes that fit it is that of a tensor that both compute it of, else
        its own, else that in which both sides are the nearest. None where the sizes differ.
        """
        wanted = [each[edit.reference] for each in self.reference.values if edit.reference in each]
        if not edit.subject and len(wanted) == len(self.reference.values):
            return np.zeros_like(wanted[0]), np.zeros_like(wanted[1])
        given = [each[edit.subject] for each in self.subject.values if edit.subject in each]
        if len(wanted) < 2 or len(given) < 2:
            return None
        shape = wanted[0].shape
        if given[0].size != wanted[0].size:
            try:
                first, second = (np.broadcast_to(each, shape) for each in given)
            except ValueError:
                return None
            return np.array(first), np.array(second)
        orders = _list_preferred(given[0].shape, shape)
        known = self._list_known_orders(edit)
        fitting = [order for order in orders if _rank_axes(order, given[0].shape) in known]

        def measure(order: Sequence[int]) -> float:
            moved = rearrange(given[0], order, shape)
            with np.errstate(all="ignore"):
                return float(np.nan_to_num(np.abs(moved - wanted[0])).mean())

        if fitting:
            best = fitting[0]
        elif given[0].shape == shape:
            best = orders[0]
        else:
            best = min(orders, key=measure)
        return rearrange(given[0], best, shape), rearrange(given[1], best, shape)

    def _list_known_orders(self, edit: Edit) -> set[tuple[int, ...]]:
        """Return the orders of axes of what both sides compute an edit's tensors of."""
        found = set()
        for end in self.read_fragments(edit)[1].ends:
            for tensor in self.matches.to_reference.get(end, ()):
                order = self.matches.orders.get((tensor, end))
                if order is not None:
                    found.add(order)
        return found


@dataclass(frozen=True)
class Fragment:
    """Operations between tensors that both sides have, `ends`, and the tensor of an edit."""

    nodes: tuple[Node, ...]
    ends: tuple[str, ...]


def _read_fragment(region: Region, tensor: str, matched: Mapping[str, Any]) -> Fragment:
    nodes: dict[str, Node] = {}
    ends: dict[str, None] = {}
    waiting = [tensor]
    while waiting:
        each = waiting.pop()
        node = region.find_producer(each)
        if node is None or each in matched:
            ends[each] = None
        elif node.id not in nodes:
            nodes[node.id] = node
            waiting += node.inputs
    order = {node.id: at for at, node in enumerate(region.graph.nodes)}
    chosen = sorted(nodes.values(), key=lambda node: order[node.id])
    return Fragment(tuple(n for n in chosen if not _is_passed(n)), tuple(ends))


def _is_passed(node: Node) -> bool:
    """Return whether an operation only gives its one input another shape or other axes."""
    kind = kinds.properties(node.kind)
    return len(node.inputs) == 1 and (kind.passive or kind.returns_input or node.kind == "expand")


def _are_equivalent(first: Node, second: Node) -> bool:
    """Return whether two operations may compute the same: one kind, or both linear layers."""
    family = kinds.properties(first.kind).family
    is_linear = family == "linear" and kinds.properties(second.kind).family == family
    return is_linear or _are_alike(first, second)


def _are_alike(first: Node, second: Node) -> bool:
    """Return whether two operations are of one kind, or of none and of one name."""
    if first.kind == OPAQUE or second.kind == OPAQUE:
        return first.kind == second.kind and first.operation == second.operation
    return first.kind == second.kind


# Statements ---------------------------------------------------------------------------------------


def state_difference(walk: Walk, edit: Edit) -> Statement | None:
    """Return an edit in words; None where there are none, or too many operations."""
    if not edit.subject:
        return _state_missing_state(walk, edit)
    reference, subject = walk.read_fragments(edit)
    if max(len(reference.nodes), len(subject.nodes)) > MAX_NAMED:
        return None
    if not subject.nodes and not reference.nodes:
        return _state_tensor(walk, edit)
    shared = {t for end in reference.ends for t in walk.matches.to_subject.get(end, ())}
    if not subject.nodes and _is_end_of(subject.ends, shared):
        names = _join([name_operation(node) for node in reference.nodes])
        verb = "are" if len(reference.nodes) > 1 else "is"
        before = walk.find_reader(edit.subject)
        where = "" if before is None else f" before {name_operation(before)}"
        return Statement(
            Form.LEFT_OUT,
            f"{names} {verb} left out{where}",
            f"apply {_join([_word(node) for node in reference.nodes])}{where}",
        )
    if not reference.nodes and edit.reference in walk.matches.to_subject:
        known = set(walk.matches.to_subject[edit.reference])
        if known & set(subject.ends):
            names = _join([name_operation(node) for node in subject.nodes])
            return Statement(Form.ADDED, f"It also computes {names}", f"leave out {names}")
    if len(reference.nodes) == len(subject.nodes) == 1:
        found = _state_single(walk, reference.nodes[0], subject.nodes[0])
        if found is not None:
            return found
        if _are_alike(reference.nodes[0], subject.nodes[0]):
            nodes = reference.nodes[0], subject.nodes[0]
            return (
                _state_inputs(walk, *nodes)
                or _state_shapes(walk, *nodes)
                or _state_tables(*nodes)
                or _state_operand(*nodes)
            )
    return _state_operations(walk, edit, reference, subject)


def _is_end_of(ends: Sequence[str], shared: Collection[str]) -> bool:
    return len(ends) == 1 and ends[0] in shared


def _state_single(walk: Walk, first: Node, second: Node) -> Statement | None:
    """Return how one operation differs from another."""
    where = name_operation(second)
    if _are_alike(first, second):
        differences = walk.compare(first, second)
        if not differences:
            return None
        texts = _join([f"{e.name} is {e.value}, not {e.expected}," for e in differences])
        remedy = _join([f"set {each.name} to {each.expected}" for each in differences])
        text = f"{texts} in {where}"
        return Statement(Form.SETTING, text[:1].upper() + text[1:], f"{where}: {remedy}")
    if len(first.inputs) != len(second.inputs):
        return None
    if walk.pair_inputs(first, second):
        return None
    if OPAQUE in (first.kind, second.kind):
        # Each framework has names of its own, for the same operation too.
        return Statement(
            Form.OTHER,
            f"{where} gives other values than {name_operation(first)} of the same inputs",
            f"{where}: compute what {name_operation(first)} does",
        )
    return Statement(
        Form.OTHER,
        f"It computes {name_operation(second)}, not {name_operation(first)}",
        f"{where}: use {_word(first)}",
    )


def _state_inputs(walk: Walk, first: Node, second: Node) -> Statement | None:
    """Return what one operation reads, where another reads something else."""
    pairs = walk.pair_inputs(first, second)
    if not pairs:
        return None
    texts = [
        f"{name_tensor(walk.subject.graph, other)}, not {_name_for_subject(walk, one)}"
        for one, other in pairs
    ]
    where = name_operation(second)
    wanted = _join([_name_for_subject(walk, one) for one, _ in pairs])
    return Statement(Form.TENSOR, f"{where} reads {_join(texts)}", f"{where}: read {wanted}")


def _state_missing_state(walk: Walk, edit: Edit) -> Statement:
    """Return that a recurrent layer has no first state."""
    where = name_operation(walk.subject.graph.by_id[edit.reader])
    name = _name_for_subject(walk, edit.reference)
    return Statement(
        Form.STATE,
        f"{where} begins with zeros, not with its initial state, {name}",
        f"{where}: give it its initial state, {name}",
    )


def _state_shapes(walk: Walk, first: Node, second: Node) -> Statement | None:
    """Return how the shape of an input was changed otherwise, where the values are the same."""
    for one, other in zip(first.inputs, second.inputs, strict=True):
        maker, own_maker = walk.reference.find_producer(one), walk.subject.find_producer(other)
        if maker is None or own_maker is None or not _are_alike(maker, own_maker):
            continue
        if not _is_passed(maker) or not _is_passed(own_maker):
            continue
        known = walk.reference.values[0].get(maker.inputs[0])
        own = walk.subject.values[0].get(own_maker.inputs[0])
        if known is not None and own is not None and agree(known, own):
            found = _state_single(walk, maker, own_maker)
            if found is not None:
                return found
    return None


def _state_tables(first: Node, second: Node) -> Statement | None:
    """Return that the constants differ, where nothing else does and they are not known."""
    tables = [
        {place for place, value in node.constants.items() if isinstance(value, dict)}
        for node in (first, second)
    ]
    if not tables[0] & tables[1]:
        return None
    where = name_operation(second)
    return Statement(
        Form.SETTING,
        f"The table of constants of {where} is not that of {name_operation(first)}",
        f"{where}: compute its constants as the reference does",
    )


def _state_operand(first: Node, second: Node) -> Statement | None:
    """Return that an operation computes another operand from the same weights.

    Nothing else can differ in an operation without settings that reads the same, and whose weights
    are the reference's, which the proof checks.
    """
    kind = kinds.properties(second.kind)
    if kind.hyperparameters or not kind.affine or not first.parameters or not second.parameters:
        return None
    where = name_operation(second)
    names = _join([f"`{each.name}`" for each in second.parameters])
    return Statement(
        Form.SETTING,
        f"{where} computes its operand from {names} otherwise than {name_operation(first)}",
        f"{where}: compute its operand as the reference does",
    )


def _state_tensor(walk: Walk, edit: Edit) -> Statement | None:
    """Return which tensor is read, where both sides have both."""
    reader = walk.find_reader(edit.subject)
    where = "It" if reader is None else name_operation(reader)
    other = name_tensor(walk.subject.graph, edit.subject)
    wanted = _name_for_subject(walk, edit.reference)
    return Statement(Form.TENSOR, f"{where} reads {other}, not {wanted}", f"{where}: read {wanted}")


def _name_for_subject(walk: Walk, tensor: str) -> str:
    """Return the name of a tensor of the reference, in the subject's words where it has it."""
    found = walk.matches.to_subject.get(tensor)
    own = f" ({name_tensor(walk.subject.graph, found[0])} here)" if found else ""
    return f"{name_tensor(walk.reference.graph, tensor)} of the reference{own}"


def _state_operations(
    walk: Walk, edit: Edit, reference: Fragment, subject: Fragment
) -> Statement | None:
    if not subject.nodes:
        return None
    own = _join([name_operation(node) for node in subject.nodes])
    if not reference.nodes:
        wanted = f"reads {name_tensor(walk.reference.graph, edit.reference)}"
        remedy = f"read {_name_for_subject(walk, edit.reference)} in place of {own}"
    else:
        if sorted(map(_word, reference.nodes)) == sorted(map(_word, subject.nodes)):
            # They differ in what these words do not say.
            return None
        names = _join([name_operation(node) for node in reference.nodes])
        wanted = f"computes {names}"
        remedy = f"compute {names} in place of {own}"
    return Statement(Form.OTHER, f"It computes {own} where the reference {wanted}", remedy)


def name_operation(node: Node) -> str:
    """Return an operation's name and place: `softmax` (net.py:12), with what is special of it."""
    place = node.source or node.path
    numbers = [_format_number(v) for k, v in node.constants.items() if k.isdigit()]
    told = [text for text in numbers if text]
    stated = [f"{k}={v}" for k, v in node.hyper.items() if isinstance(v, str)]
    with_numbers = f" with {_join(told)}" if told else ""
    if node.kind == OPAQUE and stated:
        with_numbers = f" with {_join(stated)}"
    return f"`{_word(node)}`{with_numbers} ({place})" if place else f"`{_word(node)}`{with_numbers}"


def name_tensor(graph: Graph, tensor: str) -> str:
    """Return the name of a tensor: that of the operation that makes it, or of the input."""
    node = graph.producers.get(tensor)
    while node is not None and _is_passed(node) and not node.path and node.inputs:
        tensor = node.inputs[0]
        node = graph.producers.get(tensor)
    if node is None:
        names = [port.name for port in graph.inputs if port.tensor == tensor]
        return f"the input `{names[0]}`" if names else "another tensor"
    place = node.path or node.operation
    return f"`{place}` ({node.source})" if node.source else f"`{place}`"


def _word(node: Node) -> str:
    if node.kind == OPAQUE:
        return node.operation
    return kinds.get(node.kind).phrase or node.kind if kinds.find(node.kind) else node.kind


def _format_number(value: Any) -> str:
    while isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def compare_constants(first: Node, second: Node) -> list[SettingDifference]:
    """Return the numbers that two operations of one kind read at one place and that differ."""
    found = []
    for place in sorted(first.constants.keys() & second.constants.keys()):
        wanted, value = (_format_number(n.constants[place]) for n in (first, second))
        if (
            wanted
            and value
            and not math.isclose(float(wanted), float(value), rel_tol=_SAME_NUMBER, abs_tol=0.0)
        ):
            found.append(SettingDifference("the number", value, wanted))
    return found


def _join(texts: Sequence[str]) -> str:
    texts = list(dict.fromkeys(texts))
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
