"""The operations in which two regions differ, in words."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np

from parity.explain.proof.movements import (
    Chain,
    Movement,
    describe_order,
    find_exchanged_parts,
    moves_values,
)
from parity.explain.proof.region import Array, Region, agree, agree_with_merged_axes, rearrange
from parity.explain.proof.region_walk import (
    Fragment,
    RegionWalk,
    SettingDifference,
    Substitution,
    have_same_kind,
    keeps_values,
)
from parity.network import kinds
from parity.network.graph import OPAQUE, Graph, Node

MAX_NAMED = 5
"""The operations of one side up to which a difference is stated: more of them say nothing."""

_SAME_NUMBER = 1e-6
"""The largest relative difference of numbers that are called the same: float32 holds them."""


class DifferenceType(Enum):
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
    PLACES = auto()
    """Another order of the values that operations move."""
    ORDER = auto()
    """Neighbouring operations in another order."""
    STATE = auto()
    """A recurrent layer's first state that is not given."""


@dataclass(frozen=True)
class DifferenceText:
    """A difference in words, as a sentence without its full stop, and the remedy."""

    form: DifferenceType
    text: str
    remedy: str


@dataclass(frozen=True)
class RegionProof:
    """The differences of a region that were proved, and what the reference gives with them."""

    statements: tuple[DifferenceText, ...]
    """None where the row differs in nothing that is read of it."""
    output: Array
    method: str
    """How they were proved, as the beginning of a sentence."""
    is_measured: bool = True
    """Whether `output` is that of a run, and not the subject's own."""


def describe_difference(walk: RegionWalk, edit: Substitution) -> DifferenceText | None:
    """Return an edit in words; None where there are none, or too many operations."""
    if not edit.subject:
        return _describe_missing_state(walk, edit)
    if edit.pieces:
        return _describe_pieces(walk, edit)
    reference, subject = walk.read_fragments(edit)
    exchanged = _describe_exchanged_inputs(walk, reference, subject)
    if exchanged is not None:
        return exchanged
    if reference.nodes and subject.nodes and not _differ_by_settings(walk, reference, subject):
        movement = walk.find_movement(edit)
        if movement is not None:
            return _describe_movement(walk, [movement])
    mask = _describe_mask(walk, edit)
    if mask is not None:
        return mask
    if max(len(reference.nodes), len(subject.nodes)) > MAX_NAMED:
        return None
    if not subject.nodes and not reference.nodes:
        return _describe_tensor(walk, edit)
    shared = {t for end in reference.ends for t in walk.matches.to_subject.get(end, ())}
    if _is_ambiguous(walk, reference, subject) or _are_elsewhere(walk, reference, subject):
        return None
    if not subject.nodes and _is_end_of(subject.ends, shared):
        names = _join([name_operation(node) for node in reference.nodes])
        verb = "are" if len(reference.nodes) > 1 else "is"
        before = walk.find_reader(edit.subject)
        where = "" if before is None else f" before {name_operation(before)}"
        return DifferenceText(
            DifferenceType.LEFT_OUT,
            f"{names} {verb} left out{where}",
            f"apply {_join([_word(node) for node in reference.nodes])}{where}",
        )
    if not reference.nodes and edit.reference in walk.matches.to_subject:
        known = set(walk.matches.to_subject[edit.reference])
        if known & set(subject.ends):
            names = _join([name_operation(node) for node in subject.nodes])
            return DifferenceText(
                DifferenceType.ADDED, f"It also computes {names}", f"leave out {names}"
            )
    if len(reference.nodes) == len(subject.nodes) == 1:
        found = _describe_single(walk, reference.nodes[0], subject.nodes[0])
        if found is not None:
            return found
        if walk.have_same_form(reference.nodes[0], subject.nodes[0]):
            parts = _describe_exchanged_parts(walk, edit)
            if parts is not None:
                return parts
            nodes = reference.nodes[0], subject.nodes[0]
            if walk.find_differences(*nodes):
                return None
            return (
                _describe_inputs(walk, *nodes)
                or _describe_shapes(walk, *nodes)
                or _describe_tables(*nodes)
                or _describe_computed_operand(*nodes)
            )
    return _describe_operations(walk, edit, reference, subject)


def _describe_exchanged_inputs(
    walk: RegionWalk, reference: Fragment, subject: Fragment
) -> DifferenceText | None:
    """Return that one operation joins the same tensors in another order."""
    if not len(reference.nodes) == len(subject.nodes) == 1:
        return None
    first, second = reference.nodes[0], subject.nodes[0]
    if not have_same_kind(first, second) or not kinds.properties(first.kind).ordered:
        return None
    pairs = walk.pair_differing_inputs(first, second) or []
    left = [other for _, other in pairs]
    for one, _ in pairs:
        partner = next((o for o in left if o in walk.matches.to_subject.get(one, ())), None)
        if partner is None:
            return None
        left.remove(partner)
    return _describe_input_order(walk, first, second) if len(pairs) > 1 else None


def _describe_input_order(walk: RegionWalk, first: Node, second: Node) -> DifferenceText:
    """Return that an operation of the subject joins the reference's tensors in another order.

    By their places where the names of two are the same.
    """
    own, wanted = (
        [name_tensor(region.graph, each) for each in node.inputs]
        for region, node in ((walk.subject, second), (walk.reference, first))
    )
    text = f"{', '.join(own)}, where the reference has {', '.join(wanted)}"
    if len(set(own)) < len(own) or len(set(wanted)) < len(wanted):
        found = {place: at for place, at in _pair_places(walk, first, second) if place != at}
        places, taken = (_join(list(map(str, each))) for each in (found, found.values()))
        text = f"its inputs {places} are {taken} of the reference, counted from 0"
    where = name_operation(second)
    return DifferenceText(
        DifferenceType.PLACES,
        f"{where} joins its inputs in another order than {name_operation(first)}: {text}",
        f"{where}: join its inputs in the reference's order",
    )


def _pair_places(walk: RegionWalk, first: Node, second: Node) -> list[tuple[int, int]]:
    """Return the places of inputs of the subject's operation and the reference's places of these.

    A tensor that is joined twice is taken at its own place, if it is there on both sides.
    """
    left = dict(enumerate(first.inputs))
    found = []
    own = list(enumerate(second.inputs))
    for place, tensor in sorted(own, key=lambda each: not _is_input(walk, left, *each)):
        known = walk.matches.to_reference.get(tensor, ())
        at = place if _is_input(walk, left, place, tensor) else None
        if at is None:
            at = next((each for each, one in left.items() if one in known), None)
        if at is not None:
            del left[at]
            found.append((place, at))
    return sorted(found)


def _is_input(walk: RegionWalk, inputs: Mapping[int, str], place: int, tensor: str) -> bool:
    return inputs.get(place) in walk.matches.to_reference.get(tensor, ())


def _are_exchanged(walk: RegionWalk, edits: Sequence[Substitution]) -> bool:
    """Return whether what the subject reads in edits is what the reference reads, each once."""
    left = [each.reference for each in edits]
    for edit in edits:
        known = walk.matches.to_reference.get(edit.subject, ())
        partner = next((each for each in left if each in known), None)
        if partner is None:
            return False
        left.remove(partner)
    return True


def join_input_orders(
    walk: RegionWalk, sentences: Mapping[Substitution, DifferenceText]
) -> tuple[DifferenceText, ...]:
    """Return statements; those on exchanged inputs of one operation that joins are one of them."""
    joined: dict[Substitution, DifferenceText] = {}
    for second in walk.subject.nodes:
        if second.kind == OPAQUE or not kinds.properties(second.kind).ordered:
            continue
        for first in walk.reference.nodes:
            pairs = set(zip(first.inputs, second.inputs, strict=False))
            edits = [each for each, sentence in sentences.items()
                     if sentence.form is DifferenceType.TENSOR
                     and (each.reference, each.subject) in pairs]  # fmt: skip
            if len(edits) > 1 and have_same_kind(first, second) and _are_exchanged(walk, edits):
                statement = _describe_input_order(walk, first, second)
                joined |= dict.fromkeys(edits, statement)
    return tuple(dict.fromkeys(joined.get(each, text) for each, text in sentences.items()))


def _describe_mask(walk: RegionWalk, edit: Substitution) -> DifferenceText | None:
    """Return that one side alone hides values of a tensor that both have.

    What the mask is computed of may be elsewhere on the other side.
    """
    wanted, own = walk.find_mask(0, edit.reference), walk.find_mask(1, edit.subject)
    before = walk.find_reader(edit.subject)
    where = "" if before is None else f" before {name_operation(before)}"
    if wanted is not None and edit.subject in walk.matches.to_subject.get(wanted[1], ()):
        return DifferenceText(
            DifferenceType.LEFT_OUT,
            f"The mask {name_operation(wanted[0])} is left out{where}",
            f"apply {_word(wanted[0])}{where}",
        )
    if own is not None and edit.reference in walk.matches.to_reference.get(own[1], ()):
        return DifferenceText(
            DifferenceType.ADDED,
            f"It also computes the mask {name_operation(own[0])}",
            f"leave out {name_operation(own[0])}",
        )
    return None


def describe_opposite(node: Node, opposite: str) -> DifferenceText:
    """Return that an operation of the subject should be its opposite, a kind."""
    where = name_operation(node)
    word = kinds.get(opposite).phrase or opposite
    return DifferenceText(
        DifferenceType.OTHER,
        f"It computes {where}, where the reference's output needs `{word}`",
        f"{where}: use `{word}`",
    )


def _differ_by_settings(walk: RegionWalk, reference: Fragment, subject: Fragment) -> bool:
    """Return whether both sides are one operation of one kind, with other settings."""
    if not len(reference.nodes) == len(subject.nodes) == 1:
        return False
    return walk.have_other_settings(reference.nodes[0], subject.nodes[0])


def _describe_movement(walk: RegionWalk, movements: Sequence[Movement]) -> DifferenceText | None:
    """Return in which order values are moved otherwise, by one chain or a few."""
    graph = walk.reference.graph
    orders = []
    for each in movements:
        names = [f"{name_tensor(graph, end)} of the reference" for end, _ in each.wanted.ends]
        order = describe_order(each.wanted, each.own, names)
        if order is None:
            return None
        orders.append(order)
    own, wanted = (
        _join([name for chain in chains for name in _name_chain(chain)])
        for chains in ([each.subject for each in movements], [e.reference for e in movements])
    )
    return DifferenceText(
        DifferenceType.PLACES,
        f"{own} {_agree('gives', own)} the values in another order than {wanted}: "
        f"{'; '.join(dict.fromkeys(orders))}",
        f"{own}: order the values as {wanted} {_agree('does', wanted)}",
    )


def _agree(verb: str, names: str) -> str:
    """Return a verb in the number of names."""
    plural = {"gives": "give", "does": "do"}
    return verb if " and " not in names else plural[verb]


def _describe_pieces(walk: RegionWalk, edit: Substitution) -> DifferenceText | None:
    """Return in which order pieces of one tensor are taken."""
    movements = [walk.find_movement(each) for each in edit.pieces]
    found = [each for each in movements if each is not None]
    return _describe_movement(walk, found) if len(found) == len(movements) else None


def _name_chain(chain: Chain) -> list[str]:
    """Return the names of a chain's operations: of reshapes only if what is between is turned."""
    is_turned = any(node.kind == "transpose" for node in chain.nodes)
    shown = [node for node in chain.nodes
             if not keeps_values(node) or (is_turned and node.source)]  # fmt: skip
    return [name_operation(node) for node in shown or chain.nodes]


def _describe_exchanged_parts(walk: RegionWalk, edit: Substitution) -> DifferenceText | None:
    """Return which parts of one axis of two joined tensors are in each other's places."""
    first = walk.reference.find_producer(edit.reference)
    second = walk.subject.find_producer(edit.subject)
    if first is None or second is None or not have_same_kind(first, second):
        return None
    if not kinds.properties(first.kind).ordered:
        return None
    values, order = walk.reference.values, walk.find_order(edit)
    if order is None or any(edit.reference not in each for each in values):
        return None
    wanted = [each[edit.reference] for each in values]
    own = [rearrange(each[edit.subject], order, wanted[0].shape) for each in walk.subject.values]
    found = find_exchanged_parts(wanted, own)
    if found is None:
        return None
    axis, places, taken = found
    texts = [", ".join(map(str, each)) for each in (places, taken)]
    names = name_operation(second), name_operation(first)
    return DifferenceText(
        DifferenceType.PLACES,
        f"{names[0]} joins its parts in another order than {names[1]}: at {texts[0]} of axis "
        f"{axis} is what the reference has at {texts[1]}",
        f"{names[0]}: join the parts in the order of {names[1]}",
    )


def _is_ambiguous(walk: RegionWalk, reference: Fragment, subject: Fragment) -> bool:
    """Return whether one side alone has operations, and the other has one like them just before.

    Where a mask has no effect, what is before it and what is behind it are the same.
    """
    if bool(reference.nodes) == bool(subject.nodes):
        return False
    nodes = reference.nodes or subject.nodes
    region = walk.subject if reference.nodes else walk.reference
    ends = subject.ends if reference.nodes else reference.ends
    before = [region.graph.producers.get(end) for end in ends]
    return any(
        maker is not None and _has_no_effect(region, maker) and have_same_kind(maker, node)
        for maker in before
        for node in nodes
    )


def _are_elsewhere(walk: RegionWalk, reference: Fragment, subject: Fragment) -> bool:
    """Return whether the side that seems to lack operations has as many of them, in another place.

    A norm before its activation, in place of behind it, is neither left out nor added. Arithmetic
    is not counted, which models are written with in many ways.
    """
    if bool(reference.nodes) == bool(subject.nodes):
        return False
    graphs = walk.reference.graph, walk.subject.graph
    has, lacks = graphs if reference.nodes else graphs[::-1]
    return any(
        sum(have_same_kind(node, each) for each in lacks.nodes)
        >= sum(have_same_kind(node, each) for each in has.nodes)
        for node in reference.nodes or subject.nodes
        if not kinds.properties(node.kind).python_operator
    )


def _has_no_effect(region: Region, node: Node) -> bool:
    """Return whether an operation gives what it reads, or that cannot be told."""
    values = region.values[0]
    output = values.get(node.outputs[0])
    known = [values[each] for each in node.inputs if each in values]
    return output is None or any(agree_with_merged_axes(output, each) for each in known)


def _are_reordered(walk: RegionWalk, one: str, other: str) -> bool:
    """Return whether two tensors have the same values, in whatever order."""
    for first, second in zip(walk.reference.values, walk.subject.values, strict=True):
        wanted, own = first.get(one), second.get(other)
        if wanted is None or own is None or wanted.size != own.size:
            return False
        if not agree(np.sort(wanted, axis=None), np.sort(own, axis=None)):
            return False
    return True


def _may_differ_inside(walk: RegionWalk, first: Node, second: Node) -> bool:
    """Return whether two operations of one kind may differ by themselves, as two products may."""
    if OPAQUE in (first.kind, second.kind) or walk.find_differences(first, second):
        return True
    return any(each.parameters or each.constants or each.constant_ids for each in (first, second))


def _is_end_of(ends: Sequence[str], shared: Collection[str]) -> bool:
    return len(ends) == 1 and ends[0] in shared


def _describe_single(walk: RegionWalk, first: Node, second: Node) -> DifferenceText | None:
    """Return how one operation differs from another."""
    where = name_operation(second)
    if walk.have_same_form(first, second):
        differences = walk.find_differences(first, second)
        if not differences or walk.pair_differing_inputs(first, second) != []:
            # Which of the settings and the inputs it is, is not known.
            return None
        return _describe_differences(second, differences)
    if len(first.inputs) != len(second.inputs):
        return None
    if walk.pair_differing_inputs(first, second):
        return None
    if OPAQUE in (first.kind, second.kind):
        # Each framework has names of its own, for the same operation too.
        return DifferenceText(
            DifferenceType.OTHER,
            f"{where} gives other values than {name_operation(first)} of the same inputs",
            f"{where}: compute what {name_operation(first)} does",
        )
    if _has_table(first) or _has_table(second):
        # What differs may be the numbers, of which one is the other's negative or inverse.
        return DifferenceText(
            DifferenceType.OTHER,
            f"{where} gives other values than {name_operation(first)} of the same inputs; its "
            "constants may be others",
            f"{where}: compare its constants with those of {name_operation(first)}",
        )
    return DifferenceText(
        DifferenceType.OTHER,
        f"It computes {name_operation(second)}, not {name_operation(first)}",
        f"{where}: use {_word(first)}",
    )


def _has_table(node: Node) -> bool:
    """Return whether an operation reads weights, or a constant of several values."""
    return bool(node.parameters or node.constant_ids)


def _describe_differences(node: Node, differences: Sequence[SettingDifference]) -> DifferenceText:
    """Return the settings in which an operation of the subject differs."""
    where = name_operation(node)
    texts = _join([e.text or f"{e.name} is {e.value}, not {e.expected}" for e in differences])
    remedy = _join([e.remedy or f"set {e.name} to {e.expected}" for e in differences])
    text = f"{texts}, in {where}"
    return DifferenceText(DifferenceType.SETTING, text[:1].upper() + text[1:], f"{where}: {remedy}")


def _describe_inputs(walk: RegionWalk, first: Node, second: Node) -> DifferenceText | None:
    """Return what one operation reads, where another reads something else."""
    pairs = walk.pair_differing_inputs(first, second)
    if not pairs or any(_are_reordered(walk, *pair) for pair in pairs):
        return None
    texts = [
        f"{name_tensor(walk.subject.graph, other)}, not {_name_for_subject(walk, one)}"
        for one, other in pairs
    ]
    where = name_operation(second)
    wanted = _join([_name_for_subject(walk, one) for one, _ in pairs])
    return DifferenceText(
        DifferenceType.TENSOR, f"{where} reads {_join(texts)}", f"{where}: read {wanted}"
    )


def _describe_missing_state(walk: RegionWalk, edit: Substitution) -> DifferenceText:
    """Return that a recurrent layer has no first state."""
    where = name_operation(walk.subject.graph.by_id[edit.reader])
    name = _name_for_subject(walk, edit.reference)
    return DifferenceText(
        DifferenceType.STATE,
        f"{where} begins with zeros, not with its initial state, {name}",
        f"{where}: give it its initial state, {name}",
    )


def _describe_shapes(walk: RegionWalk, first: Node, second: Node) -> DifferenceText | None:
    """Return how the shape of an input was changed otherwise, where the values are the same."""
    for one, other in zip(first.inputs, second.inputs, strict=True):
        maker, own_maker = walk.reference.find_producer(one), walk.subject.find_producer(other)
        if maker is None or own_maker is None or not have_same_kind(maker, own_maker):
            continue
        if not keeps_values(maker) or not keeps_values(own_maker):
            continue
        known = walk.reference.values[0].get(maker.inputs[0])
        own = walk.subject.values[0].get(own_maker.inputs[0])
        if known is not None and own is not None and agree(known, own):
            found = _describe_single(walk, maker, own_maker)
            if found is not None:
                return found
    return None


def _describe_tables(first: Node, second: Node) -> DifferenceText | None:
    """Return that the constants differ, where nothing else does and they are not known."""
    tables = [
        {place for place, value in node.constants.items() if isinstance(value, dict)}
        for node in (first, second)
    ]
    if not tables[0] & tables[1]:
        return None
    where = name_operation(second)
    return DifferenceText(
        DifferenceType.SETTING,
        f"The table of constants of {where} is not that of {name_operation(first)}",
        f"{where}: compute its constants as the reference does",
    )


def _describe_computed_operand(first: Node, second: Node) -> DifferenceText | None:
    """Return that an operation computes another operand from the same weights.

    Nothing else can differ in an operation without settings that reads the same, and whose weights
    are the reference's, which the proof checks.
    """
    kind = kinds.properties(second.kind)
    if kind.hyperparameters or not kind.affine or not first.parameters or not second.parameters:
        return None
    where = name_operation(second)
    names = _join([f"`{each.name}`" for each in second.parameters])
    return DifferenceText(
        DifferenceType.SETTING,
        f"{where} computes its operand from {names} otherwise than {name_operation(first)}",
        f"{where}: compute its operand as the reference does",
    )


def _describe_tensor(walk: RegionWalk, edit: Substitution) -> DifferenceText | None:
    """Return which tensor is read, where both sides have both."""
    if _are_reordered(walk, edit.reference, edit.subject):
        return None
    reader = walk.find_reader(edit.subject)
    where = "It" if reader is None else name_operation(reader)
    other = name_tensor(walk.subject.graph, edit.subject)
    wanted = _name_for_subject(walk, edit.reference)
    return DifferenceText(
        DifferenceType.TENSOR, f"{where} reads {other}, not {wanted}", f"{where}: read {wanted}"
    )


def _name_for_subject(walk: RegionWalk, tensor: str) -> str:
    """Return the name of a tensor of the reference, in the subject's words where it has it."""
    found = walk.matches.to_subject.get(tensor)
    own = f" ({name_tensor(walk.subject.graph, found[0])} here)" if found else ""
    return f"{name_tensor(walk.reference.graph, tensor)} of the reference{own}"


def _describe_operations(
    walk: RegionWalk, edit: Substitution, reference: Fragment, subject: Fragment
) -> DifferenceText | None:
    if not subject.nodes:
        return None
    known = _describe_operation_order(walk, reference, subject) or _describe_settings(
        walk, edit, reference, subject
    )
    if known is not None:
        return known
    own = _join([name_operation(node) for node in subject.nodes])
    if not reference.nodes:
        wanted = f"reads {name_tensor(walk.reference.graph, edit.reference)}"
        remedy = f"read {_name_for_subject(walk, edit.reference)} in place of {own}"
    else:
        if sorted(map(_word, reference.nodes)) == sorted(map(_word, subject.nodes)) or any(
            have_same_kind(one, other) and _may_differ_inside(walk, one, other)
            for one in reference.nodes
            for other in subject.nodes
        ):
            # They differ in what these words do not say.
            return None
        names = _join([name_operation(node) for node in reference.nodes])
        wanted = f"computes {names}"
        remedy = f"compute {names} in place of {own}"
    return DifferenceText(
        DifferenceType.OTHER, f"It computes {own} where the reference {wanted}", remedy
    )


def _describe_operation_order(
    walk: RegionWalk, reference: Fragment, subject: Fragment
) -> DifferenceText | None:
    """Return that two chains of the same operations have them in another order."""
    chains = [_list_chain(each) for each in (reference, subject)]
    if not all(chains) or len(chains[0]) != len(chains[1]) or len(chains[0]) < 2:
        return None
    left = list(chains[0])
    for node in chains[1]:
        same = [
            each
            for each in left
            if have_same_kind(each, node) and not walk.find_differences(each, node)
        ]
        if len(same) != 1:
            return None
        left.remove(same[0])
    if all(map(have_same_kind, *chains)):
        return None
    own, wanted = (_list_in_turn(list(map(name_operation, each))) for each in reversed(chains))
    return DifferenceText(
        DifferenceType.ORDER,
        f"It computes {own}, in this order, the reference {wanted}",
        f"compute {_list_in_turn([name_operation(left) for left in _sort_as(*chains)])}",
    )


def _describe_settings(
    walk: RegionWalk, edit: Substitution, reference: Fragment, subject: Fragment
) -> DifferenceText | None:
    """Return the settings of one operation, where all else only takes a part of its output."""
    makers = [
        [node for node in fragment.nodes if not moves_values(region, node)]
        for region, fragment in ((walk.reference, reference), (walk.subject, subject))
    ]
    if len(makers[0]) != 1 or len(makers[1]) != 1:
        return None
    found = walk.find_settings(makers[0][0], makers[1][0], edit)
    return _describe_differences(makers[1][0], found) if found else None


def _list_chain(fragment: Fragment) -> tuple[Node, ...]:
    """Return the operations of a fragment if each reads only the one before it; else none."""
    nodes = fragment.nodes
    if any(len(node.inputs) != 1 or len(node.outputs) != 1 for node in nodes):
        return ()
    return nodes if len(fragment.ends) == 1 else ()


def _sort_as(reference: Sequence[Node], subject: Sequence[Node]) -> list[Node]:
    """Return the subject's operations in the order of the reference's."""
    return [next(own for own in subject if have_same_kind(own, each)) for each in reference]


def _list_in_turn(names: Sequence[str]) -> str:
    return ", then ".join(names)


def name_operation(node: Node) -> str:
    """Return an operation's name and place: `softmax` (net.py:12), with what is special of it."""
    place = node.source or node.path
    numbers = [_format_number(v) for k, v in node.constants.items() if k.isdigit()]
    numbers_shown = [text for text in numbers if text]
    stated = [f"{k}={v}" for k, v in node.hyper.items() if isinstance(v, str)]
    with_numbers = f" with {_join(numbers_shown)}" if numbers_shown else ""
    if node.kind == OPAQUE and stated:
        with_numbers = f" with {_join(stated)}"
    return f"`{_word(node)}`{with_numbers} ({place})" if place else f"`{_word(node)}`{with_numbers}"


def name_tensor(graph: Graph, tensor: str) -> str:
    """Return the name of a tensor: that of the operation that makes it, or of the input."""
    node = graph.producers.get(tensor)
    while node is not None and keeps_values(node) and not node.path and node.inputs:
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
