"""The pairs of weights of two paired parts, and how one array becomes the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parity.errors import WeightError
from parity.network import axes as orders
from parity.network import kinds
from parity.network.alignment.axes import Atom, Axes
from parity.network.alignment.canonical import Part, Weight
from parity.network.alignment.result import WeightPair
from parity.network.alignment.transform import WeightTransform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]

_SPATIAL = ("D", "H", "W")
_WINDOWED = ("conv", "depthwise_conv", "conv_transpose", "separable_conv", "dense")


def pair_weights(
    reference: Sequence[tuple[Part, Axes | None]], other: Sequence[tuple[Part, Axes | None]]
) -> list[WeightPair]:
    """Return the pairs of the weights of paired parts; each comes with the axes of its input.

    Weights are paired by role, and what has no role by shape and order.
    """
    left = [(each, part, axes) for part, axes in reference for each in part.weights]
    right = [(each, part, axes) for part, axes in other for each in part.weights]
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


Located = tuple[Weight, Part, Axes | None]


def derive_transform(one: Located, two: Located) -> WeightTransform | None:
    """Return how the first weight becomes the second; None if their sizes do not fit."""
    first, second = one[0], two[0]
    if math.prod(first.shape) != math.prod(second.shape):
        return None
    plan = _plan_by_names(one, two) or _plan_by_shape(first.shape, second.shape)
    if plan is None:
        return None
    split, order, joined = plan
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


Plan = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _plan_by_names(one: Located, two: Located) -> Plan | None:
    first, second = _atoms(one), _atoms(two)
    if first is None or second is None:
        return None
    first, second = _share_joined(first, second)
    first, second = _share_joined_back(first, second)
    left = [atom for each in first for atom in each if atom[1] != 1]
    right = [atom for each in second for atom in each if atom[1] != 1]
    names = [name for name, _ in left]
    if len(set(names)) != len(names) or sorted(left) != sorted(right):
        return None
    order = tuple(names.index(name) for name, _ in right)
    return tuple(size for _, size in left), order, tuple(two[0].shape)


def _atoms(located: Located) -> Axes | None:
    """Return the atoms of each axis of a weight; None where they are not known."""
    weight, part, feed = located
    text = weight.parameter.axes if weight.take is None else ""
    kind = kinds.find(part.kind)
    if not text and kind is not None:
        text = next((role.axes for role in kind.roles if role.name == weight.role), "")
    if not text or not orders.fits(text, weight.shape):
        return None
    named = orders.names(text, len(weight.shape))
    windowed = part.kind in _WINDOWED
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
            found.append(tuple((name, -1) for name in own) if length != 1 else ())
    atoms = tuple(found)
    return _flattened_input(atoms, feed) if part.kind == "dense" else atoms


def _flattened_input(atoms: Axes, feed: Axes | None) -> Axes:
    """Return a dense kernel's axes with the input axis as the map was before it was flattened."""
    joined = feed[-1] if feed else ()
    if len(joined) < 2:
        return atoms
    spatial = [name for name in _SPATIAL if name in [atom for atom, _ in joined]]
    names = {name: f"{orders.SPATIAL}{at}" for at, name in enumerate(spatial)}
    renamed = tuple((names.get(name, "I" if name == "C" else name), size) for name, size in joined)
    size = math.prod(length for _, length in joined)
    return tuple(renamed if each == (("I", size),) else each for each in atoms)


def _share_joined(first: Axes, second: Axes) -> tuple[Axes, Axes]:
    """Fill in the lengths of the axes that the first weight joins, from the second."""
    return _fill(first, second), second


def _share_joined_back(first: Axes, second: Axes) -> tuple[Axes, Axes]:
    return first, _fill(second, first)


def _fill(axes: Axes, source: Axes) -> Axes:
    known = {name: size for each in source for name, size in each if size != -1}
    if "O" in known and any(size == -1 for each in axes for _, size in each):
        # A grouped convolution with one input channel a group is a depthwise one.
        known.setdefault("C", known["O"])
        known.setdefault("M", 1)
    filled = []
    for each in axes:
        if any(size == -1 for _, size in each) and "C" in known and "M" in known:
            filled.append(tuple((name, known.get(name, 1)) for name, _ in each))
        else:
            filled.append(each)
    if "O" in known and not any(name == "O" for each in axes for name, _ in each):
        filled = [tuple(("O" if n == "C" else n, s) for n, s in each) for each in filled]
    return tuple(filled)


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
        if pair.transform.place is None:
            found[pair.other] = part
            continue
        whole = found.setdefault(pair.other, numpy.zeros(shape, part.dtype))
        whole[pair.transform.place.index()] = part
        written[pair.other] = written.get(pair.other, 0) + part.size
    for name, count in written.items():
        if count != math.prod(shapes[name]):
            raise WeightError(
                f"{name}: expected {math.prod(shapes[name])} values from the reference, "
                f"found partners for {count}"
            )
    return found
