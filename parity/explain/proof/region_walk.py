"""The walk from a row backwards to the operations in which two regions differ.

Operations that do the same are passed by; what remains between them and tensors that both sides
have is a fragment of either side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.explain.proof.arithmetic import (
    Change,
    Form,
    describe_other_constant,
    has_other_constant,
)
from parity.explain.proof.movements import Chain, Movement, moves_values, pair_ends, read_chain
from parity.explain.proof.region import (
    Array,
    Matches,
    Region,
    agree,
    agree_with_merged_axes,
    list_preferred,
    rank_axes,
    rearrange,
)
from parity.network import kinds
from parity.network.graph import OPAQUE, Node
from parity.network.kind import tuples_to_lists

MAX_EDITS = 4
"""The differences of one row up to which they are told apart."""

MAX_FIRST = 6
"""The pairs of tensors at which two sides may begin to differ that are looked at."""


@dataclass(frozen=True)
class SettingDifference:
    """A setting of two operations of one kind that differs, or a number that they read."""

    name: str
    value: str
    expected: str
    remedy: str = ""
    """What to do, where it is not to set this value."""
    text: str = ""
    """The difference in words, where it is not that of two values."""


MeasureMovement = Callable[
    ["Substitution", Chain, Chain, Mapping[str, tuple[str, tuple[int, ...]]]], Any
]
"""Returns the `Movement` of an edit's two chains, given the tensors that they read, or None."""

Evaluate = Callable[[Node, Mapping[str, Any]], Sequence[Array] | None]
"""Returns what an operation of the reference gives with some settings changed, on both inputs."""

ReadChange = Callable[[int, Node], Change | None]
"""Returns what an operation of the reference, 0, or of the subject, 1, does to one tensor with a
constant."""

Compare = Callable[[Node, Node], Sequence[SettingDifference]]
"""Returns the settings in which an operation of the subject, the second one, differs from one of
the reference of its kind."""


@dataclass(frozen=True)
class Substitution:
    """A tensor of the reference's region that the subject has otherwise: its own `subject`.

    An empty one stands for zeros, the subject's recurrent layer `reader` has no such first state,
    or for the tensor itself as its `pieces` are taken of it.
    """

    reference: str
    subject: str
    reader: str = ""
    pieces: tuple[Substitution, ...] = ()
    """What both sides take of the tensor, where the subject takes it as if its values were in
    another order: that order is put in the reference's tensor."""


Chains = tuple[Chain, Chain, Mapping[str, tuple[str, tuple[int, ...]]]]
"""Two chains that only move values, and the tensors that both read."""


@dataclass
class RegionWalk:
    """Finds where two regions differ."""

    reference: Region
    subject: Region
    matches: Matches
    compare: Compare
    groups: Mapping[str, tuple[Collection[str], Collection[str]]]
    """The operations that are paired as one, of either side, by each of the reference's."""
    measure: MeasureMovement = lambda *parts: None
    evaluate: Evaluate = lambda node, changes: None
    read_change: ReadChange = lambda side, node: None
    _walked: dict[tuple[str, str, int, bool], list[Substitution]] = field(default_factory=dict)
    """What was found before two tensors: branches that meet are walked once."""
    _chains: dict[Substitution, Chains | None] = field(default_factory=dict)
    _movements: dict[Substitution, Movement | None] = field(default_factory=dict)
    _compared: dict[tuple[str, str], Sequence[SettingDifference]] = field(default_factory=dict)
    _changes: dict[tuple[int, str], Change | None] = field(default_factory=dict)

    def list_hypotheses(self) -> list[tuple[Substitution, ...]]:
        """Return sets of edits that may make the reference's region the subject's.

        Chains that only move values are units at first. Then the smallest fragments come first;
        then those of fewer operations that are passed by, those at which a difference may begin,
        and all that both sides compute.
        """
        found: list[tuple[Substitution, ...]] = []
        ends = self.reference.output, self.subject.output
        units = tuple(dict.fromkeys(self._walk(*ends, 64, units=True)))
        stated = tuple(dict.fromkeys(self._walk(*ends, 64)))
        # Settings that differ say more than the order of values that they make.
        found += [stated, units] if all(map(self._is_stated, stated)) else [units]
        for depth in (64, 32, 16, 8, 6, 5, 4, 3, 2, 1):
            found.append(tuple(dict.fromkeys(self._walk(*ends, depth))))
        moved = self._list_moved()
        sources = self._list_moved_sources(moved)
        found += [tuple(moved), tuple(sources), *((edit,) for edit in (*moved, *sources))]
        for pair in self._list_first_differences():
            found.append(tuple(dict.fromkeys(self._walk(*pair, 64))))
        whole = (Substitution(*ends),)
        inner = [each for each in dict.fromkeys(found) if 0 < len(each) <= MAX_EDITS]
        return [*(each for each in inner if each != whole), whole]

    def _is_stated(self, edit: Substitution) -> bool:
        """Return whether the operations of an edit are of one kind, with other settings."""
        if not edit.subject:
            return False
        first, second = (fragment.nodes for fragment in self.read_fragments(edit))
        return len(first) == len(second) == 1 and self.have_other_settings(first[0], second[0])

    def differs_behind_mask(self) -> bool:
        """Return whether two rows hide the same scores of one tensor from all that reads them.

        They put other numbers there, of which a softmax makes 0.
        """
        ends = self.reference.output, self.subject.output
        sides = self.reference, self.subject
        nodes = [region.graph.producers.get(t) for region, t in zip(sides, ends, strict=True)]
        if nodes[0] is None or nodes[1] is None:
            return False
        changes = self._read_changes(nodes[0], nodes[1])
        if changes is None or changes[0].form is not Form.MASK:
            return False
        readers = [
            node for region, t in zip(sides, ends, strict=True)
            for node in region.graph.consumers.get(t, ())
        ]  # fmt: skip
        if not readers or any(node.kind != "softmax" for node in readers):
            return False
        same = changes[1].tensor in self.matches.to_subject.get(changes[0].tensor, ())
        return same and not self.find_differences(nodes[0], nodes[1])

    def have_other_settings(self, first: Node, second: Node) -> bool:
        """Return whether two operations of one kind differ in settings, for as many axes."""
        if not self.have_same_form(first, second) or not self.find_differences(first, second):
            return False
        if not first.inputs or not second.inputs:
            return True
        known = self.reference.values[0].get(first.inputs[0])
        own = self.subject.values[0].get(second.inputs[0])
        return known is None or own is None or known.ndim == own.ndim

    def _list_first_differences(self) -> list[tuple[str, str]]:
        """Return the first tensors that the subject alone has, each with one of the reference.

        They are of operations of one kind. All that the subject's reads is on both sides, but what
        the reference's reads is not. A difference begins there that is followed by what is written
        in two ways.
        """
        known = self.matches.to_reference
        own = [
            node
            for node in self.subject.nodes
            if node.outputs[0] not in known and node.outputs[0] != self.subject.output
            if node.inputs and not keeps_values(node) and all(each in known for each in node.inputs)
        ]
        pairs = [
            (node.outputs[0], other.outputs[0])
            for other in own
            for node in self.reference.nodes
            if node.outputs[0] not in self.matches.to_subject and self.have_same_form(node, other)
            if node.outputs[0] != self.reference.output
            if self._have_equal_sizes(node.outputs[0], other.outputs[0])
        ]
        return pairs[:MAX_FIRST]

    def _list_moved(self) -> list[Substitution]:
        """Return tensors of both sides that are made of the same ones by moving values alone.

        What is behind them may be written in two ways. Neither side has the other's tensor.
        """
        turned = self.matches.find_turned()
        found, used = [], set[str]()
        own = _list_last_moved(self.subject, {*self.matches.to_reference, *turned[1]})
        for one in _list_last_moved(self.reference, {*self.matches.to_subject, *turned[0]}):
            for other in own:
                edit = Substitution(one, other)
                if other in used or not self._have_equal_sizes(one, other):
                    continue
                if self._find_chains(edit) is not None:
                    found.append(edit)
                    used.add(other)
                    break
        return found[:MAX_EDITS]

    def _list_moved_sources(self, moved: Sequence[Substitution]) -> list[Substitution]:
        """Return the tensors that moved values are taken of, where one of both sides is read."""
        pieces: dict[tuple[str, str], list[Substitution]] = {}
        for edit in moved:
            chains = self._find_chains(edit)
            if chains is not None and len(chains[2]) == 1:
                ((end, (other, _)),) = chains[2].items()
                pieces.setdefault((end, other), []).append(edit)
        return [
            Substitution(end, other, pieces=tuple(each)) for (end, other), each in pieces.items()
        ]

    def _turn_source(self, edit: Substitution) -> tuple[Array, Array] | None:
        """Return a tensor with its values in the order in which the subject takes its pieces.

        None where they are not the same values on both sides.
        """
        known = [each[edit.reference] for each in self.reference.values if edit.reference in each]
        movements = [self.find_movement(each) for each in edit.pieces]
        found = [each for each in movements if each is not None]
        if len(known) < 2 or len(found) < len(movements):
            return None
        wanted, own = (
            np.concatenate([each.codes.reshape(-1) for each in side]) - 1
            for side in ([each.wanted for each in found], [each.own for each in found])
        )
        if not np.array_equal(np.sort(wanted), np.sort(own)) or wanted.min() < 0:
            return None
        if len(np.unique(wanted)) < len(wanted):
            return None
        order = np.arange(known[0].size)
        order[wanted] = own
        first, second = (each.reshape(-1)[order].reshape(each.shape) for each in known)
        return first, second

    def _have_equal_sizes(self, one: str, other: str) -> bool:
        first, second = self.reference.values[0], self.subject.values[0]
        return one in first and other in second and first[one].size == second[other].size

    def _walk(self, one: str, other: str, depth: int, *, units: bool = False) -> list[Substitution]:
        """Return the edits before two tensors; more than `MAX_EDITS` of them are not all told.

        With `units` chains that only move values are not looked into.
        """
        key = one, other, depth, units
        if key not in self._walked:
            found = dict.fromkeys(self._walk_back(one, other, depth, units=units))
            self._walked[key] = list(found)[: MAX_EDITS + 1]
        return self._walked[key]

    def find_differences(self, first: Node, second: Node) -> Sequence[SettingDifference]:
        """Return the settings, and the constants, in which two operations differ."""
        key = first.id, second.id
        if key not in self._compared:
            changes = self._read_changes(first, second)
            self._compared[key] = (
                self.compare(first, second) if changes is None else self._compare(*changes)
            )
        return self._compared[key]

    def have_same_form(self, first: Node, second: Node) -> bool:
        """Return whether two operations are one, or change one tensor in the same way."""
        return have_same_kind(first, second) or self._read_changes(first, second) is not None

    def _read_changes(self, first: Node, second: Node) -> tuple[Change, Change] | None:
        """Return what two operations do to one tensor, if that is one form in two ways of writing.

        Numbers of operations of one kind are compared as settings.
        """
        one, other = self._read_change(0, first), self._read_change(1, second)
        if one is None or other is None or one.form is not other.form:
            return None
        if have_same_kind(first, second) and not (one.is_table and other.is_table):
            return None
        return one, other

    def find_mask(self, side: int, tensor: str) -> tuple[Node, str] | None:
        """Return what hides values of a tensor of the reference, 0, or of the subject, 1, and that.

        As the operation that makes `tensor`, and the tensor that it hides values of.
        """
        node = (self.reference, self.subject)[side].find_producer(tensor)
        change = None if node is None else self._read_change(side, node)
        if node is None or change is None or change.form is not Form.MASK:
            return None
        return node, change.tensor

    def _read_change(self, side: int, node: Node) -> Change | None:
        if (side, node.id) not in self._changes:
            self._changes[side, node.id] = self.read_change(side, node)
        return self._changes[side, node.id]

    def _compare(self, wanted: Change, own: Change) -> list[SettingDifference]:
        order = self.matches.find_order(wanted.tensor, own.tensor)
        if not has_other_constant(wanted, own, order):
            return []
        text, remedy = describe_other_constant(wanted, own, order)
        return [SettingDifference("the constant", "", "", remedy, text)]

    def _walk_back(self, one: str, other: str, depth: int, *, units: bool) -> list[Substitution]:
        if other in self.matches.to_subject.get(one, ()):
            return []
        edit = [Substitution(one, other)]
        if depth <= 0 or self._has_partner(one, other):
            return edit
        first, second = self.reference.find_producer(one), self.subject.find_producer(other)
        if first is None or second is None:
            return edit
        if units and self._find_chains(edit[0]) is not None:
            return edit
        if keeps_values(first) and not keeps_values(second):
            return self._walk(first.inputs[0], other, depth, units=units)
        if keeps_values(second) and not keeps_values(first):
            return self._walk(one, second.inputs[0], depth, units=units)
        pairs = self._pair_group_inputs(first, second)
        if pairs is None:
            if not self._may_be_equivalent(first, second) or self.find_differences(first, second):
                return edit
            if kinds.properties(first.kind).recurrent:
                states = self._find_missing_states(first, second)
                if states:
                    return states
            pairs = self.pair_differing_inputs(first, second)
        if pairs is None:
            return edit
        below = [each for pair in pairs for each in self._walk(*pair, depth - 1, units=units)]
        return below or edit

    def find_movement(self, edit: Substitution) -> Movement | None:
        """Return how both sides of an edit move the same values, if they do nothing else."""
        if edit not in self._movements:
            chains = self._find_chains(edit)
            self._movements[edit] = None if chains is None else self.measure(edit, *chains)
        return self._movements[edit]

    def _find_chains(self, edit: Substitution) -> Chains | None:
        """Return the chains that make an edit's tensors, if both only move the same values.

        What they read is the same in one order of axes, or else in any.
        """
        if edit not in self._chains:
            self._chains[edit] = None
            makers = (self.reference, edit.reference), (self.subject, edit.subject)
            nodes = [region.find_producer(tensor) for region, tensor in makers]
            if all(node is not None and moves_values(region, node)
                   for node, (region, _) in zip(nodes, makers, strict=True)):  # fmt: skip
                self._chains[edit] = self._pair_chains(edit)
        return self._chains[edit]

    def _pair_chains(self, edit: Substitution) -> Chains | None:
        known = self.matches.to_subject.keys(), self.matches.to_reference.keys()
        for ends in (lambda: known, self.matches.find_turned):
            mine, own = ends()
            reference = read_chain(self.reference, edit.reference, mine)
            subject = read_chain(self.subject, edit.subject, own)
            if reference is None or subject is None:
                continue
            pairs = pair_ends(self.matches, reference, subject)
            if pairs is not None:
                return reference, subject, pairs
        return None

    def _pair_group_inputs(self, first: Node, second: Node) -> list[tuple[str, str]] | None:
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

    def _find_missing_states(self, first: Node, second: Node) -> list[Substitution]:
        """Return the first states of the reference's recurrent layer that the subject's has not."""
        if len(first.inputs) <= len(second.inputs) or len(second.inputs) != 1:
            return []
        if second.inputs[0] not in self.matches.to_subject.get(first.inputs[0], ()):
            return []
        return [Substitution(tensor, "", second.id) for tensor in first.inputs[1:]]

    def has_equal_producers(self, edit: Substitution) -> bool:
        """Return whether the operations that make an edit's tensors do the same, by themselves."""
        first = self.reference.find_producer(edit.reference)
        second = self.subject.find_producer(edit.subject)
        if first is None or second is None:
            return False
        return self._may_be_equivalent(first, second) and not self.find_differences(first, second)

    def _may_be_equivalent(self, first: Node, second: Node) -> bool:
        """Return whether two operations may compute the same: one form, or both linear layers."""
        family = kinds.properties(first.kind).family
        is_linear = family == "linear" and kinds.properties(second.kind).family == family
        return is_linear or self.have_same_form(first, second)

    def _has_partner(self, one: str, other: str) -> bool:
        """Return whether either tensor is one that the other side has too."""
        return bool(self.matches.to_subject.get(one) or self.matches.to_reference.get(other))

    def pair_differing_inputs(self, first: Node, second: Node) -> list[tuple[str, str]] | None:
        """Return the inputs of two operations that are no pair of equals; None if they differ."""
        changes = self._read_changes(first, second)
        if changes is not None:
            (one, other) = (each.tensor for each in changes)
            is_same = other in self.matches.to_subject.get(one, ())
            return [] if is_same else [(one, other)]
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
        if len(rest) == 2 and self._are_likely(rest, left[::-1]):
            left = left if self._are_likely(rest, left) else left[::-1]
        return list(zip(rest, left, strict=True))

    def _are_likely(self, ones: Sequence[str], others: Sequence[str]) -> bool:
        return all(
            self._have_producers_of_one_kind(*pair) for pair in zip(ones, others, strict=True)
        )

    def _have_producers_of_one_kind(self, one: str, other: str) -> bool:
        first, second = self.reference.find_producer(one), self.subject.find_producer(other)
        if first is None or second is None:
            return first is second
        return first.kind == second.kind

    def find_settings(
        self, first: Node, second: Node, edit: Substitution
    ) -> list[SettingDifference]:
        """Return the settings that, changed in the reference, make an edit's tensor the subject's.

        Both read the same. What either side takes of the operation's output is that, or its last
        step. Empty if there are none, or the reference's operation cannot be evaluated alone.
        """
        if not have_same_kind(first, second) or first.kind == OPAQUE:
            return []
        names = {each.name: each for each in kinds.get(first.kind).hyperparameters}
        found = [each for each in self.compare(first, second)
                 if each.name in names and not names[each.name].reshapes]  # fmt: skip
        if not found or self.pair_differing_inputs(first, second) != []:
            return []
        own = [each[edit.subject] for each in self.subject.values if edit.subject in each]
        known = [each[first.outputs[0]] for each in self.reference.values
                 if first.outputs[0] in each]  # fmt: skip
        plain = self.evaluate(first, {})
        changes = {each.name: second.hyper.get(each.name, names[each.name].default)
                   for each in found}  # fmt: skip
        changed = self.evaluate(first, changes)
        if plain is None or changed is None or len(own) < 2 or len(known) < 2:
            return []
        is_known = all(_gives(*pair) for pair in zip(plain, known, strict=True))
        differs = not any(_gives(*pair) for pair in zip(plain, own, strict=True))
        gives_own = all(_gives(*pair) for pair in zip(changed, own, strict=True))
        return found if is_known and differs and gives_own else []

    def find_reader(self, tensor: str) -> Node | None:
        """Return the subject's first operation in the region that reads a tensor, not a reshape."""
        readers = [node for node in self.subject.nodes if tensor in node.inputs]
        for node in readers:
            if not keeps_values(node):
                return node
        below = (self.find_reader(node.outputs[0]) for node in readers)
        return next((node for node in below if node is not None), None)

    # What is left -------------------------------------------------------------------------------

    def read_fragments(self, edit: Substitution) -> tuple[Fragment, Fragment]:
        """Return what either side computes between tensors that both have and the edit's."""
        return (
            _read_fragment(self.reference, edit.reference, self.matches.to_subject),
            _read_fragment(self.subject, edit.subject, self.matches.to_reference),
        )

    def arrange(self, edit: Substitution) -> tuple[Array, Array] | None:
        """Return the subject's tensor of an edit, on both inputs, in the reference's axes.

        Of several orders of the axes that fit it is that of a tensor that both compute it of, else
        its own, else that in which both sides are the nearest. None where the sizes differ.
        """
        if edit.pieces:
            return self._turn_source(edit)
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
        best = self.find_order(edit)
        if best is None:
            return None
        return rearrange(given[0], best, shape), rearrange(given[1], best, shape)

    def find_order(self, edit: Substitution) -> tuple[int, ...] | None:
        """Return the order of axes in which an edit's subject is put in the reference's place."""
        movement = self._movements.get(edit)
        if movement is not None:
            return movement.order
        orders = self.list_likely_orders(edit)
        if len(orders) < 2:
            return next(iter(orders), None)
        wanted = self.reference.values[0][edit.reference]
        given = self.subject.values[0][edit.subject]

        def measure(order: Sequence[int]) -> float:
            moved = rearrange(given, order, wanted.shape)
            with np.errstate(all="ignore"):
                return float(np.nan_to_num(np.abs(moved - wanted)).mean())

        return min(orders, key=measure)

    def list_likely_orders(self, edit: Substitution) -> list[tuple[int, ...]]:
        """Return the orders of axes in which an edit's subject may be the reference's tensor.

        One that both sides' tensors before it have is the only one, as is that of one shape.
        """
        wanted = self.reference.values[0].get(edit.reference)
        given = self.subject.values[0].get(edit.subject)
        if wanted is None or given is None or wanted.size != given.size:
            return []
        orders = list_preferred(given.shape, wanted.shape)
        known = self._list_known_orders(edit)
        fitting = [order for order in orders if rank_axes(order, given.shape) in known]
        if fitting or given.shape == wanted.shape:
            return [*fitting, *orders][:1]
        return orders

    def _list_known_orders(self, edit: Substitution) -> set[tuple[int, ...]]:
        """Return the orders of axes of what both sides compute an edit's tensors of."""
        found = set()
        for end in self.read_fragments(edit)[1].ends:
            for tensor in self.matches.to_reference.get(end, ()):
                order = self.matches.orders.get((tensor, end))
                # A reshape says nothing of the order of axes.
                if order:
                    found.add(order)
        chains = self._find_chains(edit)
        if chains is not None:
            own = self.subject.values[0]
            found |= {rank_axes(order, own[tensor].shape) for tensor, order in chains[2].values()
                      if order}  # fmt: skip
        return found


def _gives(output: Array, tensor: Array) -> bool:
    """Return whether a tensor is an operation's output (N, T, C), or its last step."""
    parts = [output, *((output[:, -1], output[-1]) if output.ndim == 3 else ())]
    return any(part.size == tensor.size and agree(tensor, part.reshape(tensor.shape))
               for part in parts)  # fmt: skip


def _list_last_moved(region: Region, known: Collection[str]) -> list[str]:
    """Return the tensors that moved values end at, and that are not among the known ones."""
    moving = [node for node in region.nodes if moves_values(region, node)]
    # One that joins several may join what is computed of the others.
    read = {node.inputs[0] for node in moving if len(node.inputs) == 1}
    return [
        tensor
        for node in moving
        for tensor in node.outputs
        if tensor not in known and tensor not in read and tensor != region.output
    ]


@dataclass(frozen=True)
class Fragment:
    """Operations between tensors that both sides have, `ends`, and the tensor of an edit."""

    nodes: tuple[Node, ...]
    ends: tuple[str, ...]


def _read_fragment(region: Region, tensor: str, matched: Mapping[str, Any]) -> Fragment:
    nodes, ends = region.collect(tensor, lambda each, _: each in matched)
    shown = tuple(n for n in nodes if not keeps_values(n) or _changes_values(region, n))
    return Fragment(shown, ends)


def _changes_values(region: Region, node: Node) -> bool:
    """Return whether an operation changes the order of values, or these, as a cast does."""
    values = region.values[0]
    if node.inputs[0] not in values or node.outputs[0] not in values:
        return node.kind == "cast"
    before, after = values[node.inputs[0]], values[node.outputs[0]]
    return before.size == after.size and not agree_with_merged_axes(before, after, exact=True)


def keeps_values(node: Node) -> bool:
    """Return whether an operation only gives its one input another shape or other axes."""
    kind = kinds.properties(node.kind)
    if any(each != [0, 0] for each in tuples_to_lists(node.hyper.get("padding", ()))):
        return False
    return len(node.inputs) == 1 and (kind.passive or kind.returns_input or node.kind == "expand")


def have_same_kind(first: Node, second: Node) -> bool:
    """Return whether two operations are of one kind, or of none and of one name."""
    if first.kind == OPAQUE or second.kind == OPAQUE:
        return first.kind == second.kind and first.operation == second.operation
    return first.kind == second.kind
