"""The pairs of weights of two paired parts, and how one array becomes the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from parity.errors import WeightError
from parity.network import axes as orders
from parity.network import kinds
from parity.network.alignment import families
from parity.network.alignment.axes import TOKENS, Atom, Axes
from parity.network.alignment.canonical import Part, Weight
from parity.network.alignment.result import WeightPair
from parity.network.alignment.transform import Blocks, WeightTransform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]

_SPATIAL = ("D", "H", "W")


Source = tuple[Part, Axes | None, str]
"""A part, the axes of its input, and the framework."""


def pair_weights(reference: Sequence[Source], other: Sequence[Source]) -> list[WeightPair]:
    """Return the pairs of the weights of paired parts.

    Weights are paired by role, and what has no role by shape and order.
    """
    left = [(each, *source) for source in reference for each in source[0].weights]
    right = [(each, *source) for source in other for each in source[0].weights]
    found: list[WeightPair] = []
    for same in (_same_role, _same_moments, _same_lengths):
        for one in list(left):
            two = next((each for each in right if same(one[0], each[0])), None)
            if two is None:
                continue
            transform = derive_transform(one, two)
            if transform is None:
                continue
            left.remove(one)
            right.remove(two)
            found.append(WeightPair(one[0].parameter.name, two[0].parameter.name, transform))
    summed = _pair_summed(left, found)
    return _join_thirds([*found, *summed, *_pair_zeros(right, found)])


def _pair_summed(left: Sequence[Located], found: list[WeightPair]) -> list[WeightPair]:
    """Pair the second bias of a recurrent layer with the one bias of the other's, their sum.

    The pair of the first bias, among those found, becomes the first term.
    """
    terms = []
    for one in left:
        role = one[0].role
        if not role.startswith("recurrent_bias"):
            continue
        first = role.removeprefix("recurrent_")
        for pair in found:
            source = next((s for s in one[1].weights if s.role == first), None)
            if source is None or pair.reference != source.parameter.name:
                continue
            if source.take and pair.transform.take != source.take:
                continue
            at = found.index(pair)
            found[at] = replace(pair, transform=replace(pair.transform, term=0))
            take = one[0].take
            changed = replace(pair.transform, term=1, take=take)
            terms.append(WeightPair(one[0].parameter.name, pair.other, changed))
            break
    return terms


def _pair_zeros(right: Sequence[Located], found: Sequence[WeightPair]) -> list[WeightPair]:
    """Pair the second bias of the other's recurrent layer with the one bias of the reference's.

    All of the sum is in the first bias, so the second one is 0.
    """
    zeros = []
    for two in right:
        role = two[0].role
        if not role.startswith("recurrent_bias"):
            continue
        first = role.removeprefix("recurrent_")
        partner = next((weight for weight in two[1].weights if weight.role == first), None)
        for pair in found:
            if partner is None or pair.other != partner.parameter.name:
                continue
            if pair.transform.place != partner.take:
                continue
            changed = replace(pair.transform, place=two[0].take, is_zero=True)
            zeros.append(WeightPair(pair.reference, two[0].parameter.name, changed))
            break
    return zeros


def _join_thirds(pairs: list[WeightPair]) -> list[WeightPair]:
    """Return one pair for the parts of a packed weight that are packed alike on both sides."""
    groups: dict[tuple[str, str], list[WeightPair]] = {}
    for pair in pairs:
        groups.setdefault((pair.reference, pair.other), []).append(pair)
    found: list[WeightPair] = []
    for names, group in groups.items():
        transforms = [pair.transform for pair in group]
        alike = all(t.take and t.take == t.place for t in transforms)
        moved = any(t.split or t.order or t.merged or t.blocks for t in transforms)
        is_whole = len(group) == 3 and alike and not moved
        found += [WeightPair(*names, WeightTransform())] if is_whole else group
    return found


def _same_role(one: Weight, two: Weight) -> bool:
    return bool(one.role) and one.role == two.role


def _same_moments(one: Weight, two: Weight) -> bool:
    return one.parameter.moments is not None and one.parameter.moments == two.parameter.moments


def _same_lengths(one: Weight, two: Weight) -> bool:
    # Two roles that are both known are not the same weight.
    if one.role and two.role:
        return False
    return _lengths(one.shape) == _lengths(two.shape)


def _lengths(shape: Sequence[int]) -> list[int]:
    return sorted(length for length in shape if length != 1)


Located = tuple[Weight, Part, Axes | None, str]
"""A weight, its part, the axes of the part's input, and the framework."""


def derive_transform(one: Located, two: Located) -> WeightTransform | None:
    """Return how the first weight becomes the second; None if their sizes do not fit."""
    first, second = one[0], two[0]
    if math.prod(first.shape) != math.prod(second.shape):
        return None
    plan = _plan_by_names(one, two) or _plan_by_shape(first.shape, second.shape)
    if plan is None:
        return None
    split, order, joined = plan
    blocks = _order_gates(one, two, split)
    if blocks is not None:
        split, order, blocks = _apart(split, order, blocks)
        return WeightTransform(split, order, tuple(second.shape), first.take, second.take, blocks)
    if order == tuple(range(len(order))):
        # Nothing moves; only the shape may change.
        split, order = (), ()
        joined = () if first.shape == second.shape else tuple(second.shape)
    if tuple(split) == first.shape:
        split = ()
    permuted = tuple((split or first.shape)[axis] for axis in order)
    if order and joined == permuted:
        joined = ()
    return WeightTransform(split, order, joined, take=first.take, place=second.take)


_ONNX_GATES = {"lstm": "iofg", "gru": "zrn"}


def _gates(part: Part, framework: str) -> str:
    """Return the order of the gates in a recurrent part's weights, a letter each."""
    stated = part.hyper.get("gates")
    usual = kinds.properties(part.kind).gates
    return str(stated or (_ONNX_GATES.get(part.kind, "") if framework == "onnx" else usual))


def _order_gates(one: Located, two: Located, split: Sequence[int]) -> Blocks | None:
    """Return the change of order of the gates, on the axis of `split` that has them all."""
    left, right = _gates(one[1], one[3]), _gates(two[1], two[3])
    if not left or sorted(left) != sorted(right) or left == right:
        return None
    units = one[1].hyper.get("units", 0)
    axis = next((at for at, size in enumerate(split) if size == len(left) * units), None)
    if axis is None:
        return None
    return Blocks(axis, tuple(left.index(gate) for gate in right))


def _apart(
    split: Sequence[int], order: Sequence[int], blocks: Blocks
) -> tuple[tuple[int, ...], tuple[int, ...], Blocks]:
    """Return the shape and the order with the gates and the units as two axes."""
    at, count = blocks.axis, len(blocks.order)
    shape = (*split[:at], count, split[at] // count, *split[at + 1 :])
    moved: list[int] = []
    for axis in order:
        place = axis + (axis > at)
        moved += [place, place + 1] if axis == at else [place]
    return shape, tuple(moved), blocks


Plan = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _plan_by_names(one: Located, two: Located) -> Plan | None:
    """Return the plan by the names of the axes; None where they are not known or not the same.

    A dense kernel's input axis is what the map was before it was flattened, or else, where the
    partner has no such axes, its own: a layer may read tokens that were moved to the last axis.
    """
    for flattened in (True, False):
        first, second = (_atoms(each, flattened=flattened) for each in (one, two))
        if first is None or second is None:
            return None
        plan = _plan_by_atoms(first, second, tuple(two[0].shape))
        if plan is not None:
            return plan
    return None


def _plan_by_atoms(first: Axes, second: Axes, shape: tuple[int, ...]) -> Plan | None:
    first, second = _match_atoms(first, second)
    left = [atom for each in first for atom in each if atom[1] != 1]
    right = [atom for each in second for atom in each if atom[1] != 1]
    names = [name for name, _ in left]
    if len(set(names)) != len(names) or sorted(left) != sorted(right):
        return None
    order = tuple(names.index(name) for name, _ in right)
    return tuple(size for _, size in left), order, shape


def _atoms(located: Located, *, flattened: bool) -> Axes | None:
    """Return the atoms of each axis of a weight; None where they are not known.

    With `flattened`, a dense kernel's input axis is what the map was before it was flattened.
    """
    weight, part, feed, framework = located
    text = weight.axes if weight.axes is not None else weight.parameter.axes
    kind = kinds.find(part.kind)
    if not text and kind is not None:
        text = next((role.axes for role in kind.roles if role.name == weight.role), "")
    if not text and not weight.role and len(weight.shape) == 2:
        text = _usual_axes(weight.parameter.name, framework)
    if not text or not orders.fits(text, weight.shape):
        return None
    named = orders.names(text, len(weight.shape))
    windowed = part.family in (families.LINEAR, "conv_transpose")
    spatial = [n for names in named for n in names if n in _SPATIAL]
    found: list[tuple[Atom, ...]] = []
    for names, length in zip(named, weight.shape, strict=True):
        if windowed:
            ranks = sorted(spatial, key=_SPATIAL.index)
            own = [f"{orders.SPATIAL}{ranks.index(n)}" if n in spatial else n for n in names]
        else:
            own = list(names)
        if len(own) == 1:
            found.append(((own[0], length),))
        else:
            # A joined axis: its lengths are those of the partner, which has them apart.
            joined = ((own[0], -length), *((name, -1) for name in own[1:])) if own else ()
            found.append(joined if length != 1 else ())
    atoms = tuple(found)
    return _flattened_input(atoms, feed) if flattened and part.kind == "dense" else atoms


def _usual_axes(name: str, framework: str) -> str:
    """Return the axes of the kernel of a layer that reads weights alone, such as learned queries.

    What it makes is a constant, so that no operation of the graph states them. Its name does.
    """
    if framework == "keras":
        return "I O" if name.endswith("/kernel") else ""
    return "O I" if framework == "torch" and name.endswith(".weight") else ""


def _flattened_input(atoms: Axes, feed: Axes | None) -> Axes:
    """Return a dense kernel's axes with the input axis as the map was before it was flattened."""
    joined = feed[-1] if feed else ()
    # Heads that are joined again are no map: the partner's kernel may have them apart.
    if not any(name in (*_SPATIAL, TOKENS) for name, _ in joined):
        return atoms
    spatial = [name for name in _SPATIAL if name in [atom for atom, _ in joined]]
    names = {name: f"{orders.SPATIAL}{at}" for at, name in enumerate(spatial)}
    renamed = tuple((names.get(name, "I" if name == "C" else name), size) for name, size in joined)
    size = math.prod(length for _, length in joined)
    return tuple(renamed if each == (("I", size),) else each for each in atoms)


def _match_atoms(first: Axes, second: Axes) -> tuple[Axes, Axes]:
    """Return both with the same atoms where one joins axes that the other has apart.

    `(C M)` of a depthwise kernel gets the partner's lengths; `O` becomes `O1 O2` where the partner
    has the heads apart.
    """
    first, second = _fill(first, second), _fill(second, first)
    return _split_numbered(first, second), _split_numbered(second, first)


def _fill(axes: Axes, source: Axes) -> Axes:
    """Return axes whose joined ones have the lengths that the other weight states.

    A joined axis comes with its whole length, negative, at the first of its names.
    """
    known = {name: size for each in source for name, size in each if size > 0}
    found: list[tuple[Atom, ...]] = []
    for each in axes:
        if all(size > 0 for _, size in each):
            found.append(each)
        elif "O" in known and "C" not in known:
            # A grouped convolution with one input channel a group is a depthwise one.
            found.append((("O", known["O"]),))
        elif all(name in known for name, _ in each):
            found.append(tuple((name, known[name]) for name, _ in each))
        else:
            first, *rest = each
            found.append(((first[0], -first[1]), *((name, 1) for name, _ in rest)))
    return tuple(found)


def _split_numbered(axes: Axes, source: Axes) -> Axes:
    known = {name: size for each in source for name, size in each}

    def split(atom: Atom) -> tuple[Atom, ...]:
        name, length = atom
        parts = [
            (f"{name}{at}", known[f"{name}{at}"]) for at in (1, 2, 3) if f"{name}{at}" in known
        ]
        return tuple(parts) if math.prod(size for _, size in parts) == length else (atom,)

    return tuple(tuple(part for atom in each for part in split(atom)) for each in axes)


def _plan_by_shape(first: Sequence[int], second: Sequence[int]) -> Plan | None:
    """Return the first permutation under which one shape is the other, up to joined axes."""
    left, right = tuple(first), tuple(second)
    if left == right:
        return left, tuple(range(len(left))), right
    rank = len(left)
    likely = [tuple(range(rank))] if _merges(left, right) else []
    likely.append(tuple(reversed(range(rank))))
    every = itertools.permutations(range(rank)) if rank <= 5 else iter(())
    for order in itertools.chain(likely, every):
        if _merges(tuple(left[axis] for axis in order), right):
            return left, order, right
    return None


def _merges(left: Sequence[int], right: Sequence[int]) -> bool:
    """Return whether whole axes of one shape are joined or split to those of the other."""
    fewer, more = sorted((_cumulate(left), _cumulate(right)), key=len)
    return set(fewer) <= set(more)


def _cumulate(shape: Sequence[int]) -> list[int]:
    return sorted({math.prod(shape[: at + 1]) for at in range(len(shape))} | {1})


def transfer_weights(
    pairs: Sequence[WeightPair],
    read: Callable[[str], Array],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Array]:
    """Return the other's weights by name, from the reference's, which `read` returns by name.

    `shapes` are those of the other's weights. Raises `WeightError` where a packed weight would have
    a part without partner.
    """
    import numpy

    found: dict[str, Array] = {}
    written: dict[str, int] = {}
    for pair in pairs:
        shape = shapes[pair.other]
        part = pair.transform.apply(read(pair.reference), shape)
        if not pair.transform.place and not pair.transform.term:
            # Other terms may be added, and the reference's array is not to change.
            found[pair.other] = part if pair.transform.term is None else part.copy()
            continue
        view: Any = found.setdefault(pair.other, numpy.zeros(shape, part.dtype))
        for each in pair.transform.place:
            view = view[each.index()]
        if pair.transform.term:
            view += part
            continue
        view[...] = part
        written[pair.other] = written.get(pair.other, 0) + part.size
    for name, count in written.items():
        if count != math.prod(shapes[name]):
            raise WeightError(
                f"{name}: expected {math.prod(shapes[name])} values from the reference, "
                f"found partners for {count}"
            )
    return found
