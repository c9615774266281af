"""The rearrangement between two tensors, from the names of their axes or else from their shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parity.network.alignment.axes import BATCH, Atom, Axes
from parity.network.rearrangement import IDENTITY, Rearrangement

MAX_RANK = 6
"""Above it, permutations are not tried."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The most likely rearrangement, and whether others fit the shapes as well."""

    rearrangement: Rearrangement
    open: bool


def choose_rearrangement(
    shape: Sequence[int], axes: Axes | None, other: Sequence[int], other_axes: Axes | None
) -> Choice | None:
    """Return what turns a tensor of shape `other` into one of `shape`; None if nothing fits."""
    if axes is not None and other_axes is not None:
        named = find_by_axis_names(shape, axes, other, other_axes)
        # Of time first and batch first at a batch of one, a name may be that of the other axis.
        is_misnamed = named is not None and (
            named.infer_shape(tuple(other)) != tuple(shape)
            and [n for n in shape if n != 1] == [n for n in other if n != 1]
        )
        if named is not None and not is_misnamed:
            return Choice(named, False)
    every = list(itertools.islice(iterate_by_shape(shape, other), 25))
    if not every:
        return None
    return Choice(every[0], len(every) > 1)


def find_by_axis_names(
    shape: Sequence[int], axes: Axes, other: Sequence[int], other_axes: Axes
) -> Rearrangement | None:
    """Return the rearrangement that the names of the axes state, or None if the names differ."""
    wanted, present = _flatten(axes), _flatten(other_axes)
    plan = order_atoms(present, wanted)
    if plan is None:
        return None
    if all(len(each) == 1 for each in (*axes, *other_axes)) and len(plan) == len(wanted):
        return Rearrangement(order=plan) if plan != tuple(range(len(plan))) else IDENTITY
    if [size for _, size in present] != [dict(wanted).get(name) for name, _ in present]:
        return None
    split = tuple(-1 if name == BATCH else size for name, size in present)
    merged = _with_batch(shape, axes)
    rearrangement = Rearrangement(split=split, order=plan, merged=merged)
    is_still = plan == tuple(range(len(plan)))
    if is_still:
        return IDENTITY if tuple(shape) == tuple(other) else Rearrangement(merged=merged)
    return rearrangement


def order_atoms(present: Sequence[Atom], wanted: Sequence[Atom]) -> tuple[int, ...] | None:
    """Return the permutation of named axes, or None if the names differ or are not unique."""
    names = [name for name, _ in present]
    if len(set(names)) != len(names) or sorted(names) != sorted(name for name, _ in wanted):
        return None
    return tuple(names.index(name) for name, _ in wanted)


def iterate_by_shape(shape: Sequence[int], other: Sequence[int]) -> Iterator[Rearrangement]:
    """Yield the rearrangements that fit two shapes, the most likely first.

    The first axis is the batch wherever that fits. Axes of length 1 may be missing on one side.
    """
    wanted, present = tuple(shape), tuple(other)
    if math.prod(wanted) != math.prod(present):
        return
    if len([length for length in wanted[1:] if length != 1]) <= 1 and wanted[:1] == present[:1]:
        if wanted == present:
            yield IDENTITY
        elif len(wanted) == len(present):
            # The batch stays, and the one axis that has values moves to its place.
            yield Rearrangement(order=_move(present, wanted))
        else:
            yield Rearrangement(merged=(-1, *wanted[1:]))
        return
    if len(wanted) == len(present) <= MAX_RANK:
        yield from _permutations(wanted, present)
        return
    left = [length for length in wanted[1:] if length != 1]
    right = [length for length in present[1:] if length != 1]
    if left == right and wanted[:1] == present[:1]:
        yield Rearrangement(merged=(-1, *wanted[1:]))
    elif sorted(left) == sorted(right) and len(left) <= MAX_RANK and wanted[:1] == present[:1]:
        for rearrangement in _permutations((1, *left), (1, *right)):
            yield Rearrangement(
                split=(-1, *right), order=rearrangement.order, merged=(-1, *wanted[1:])
            )


def _permutations(wanted: tuple[int, ...], present: tuple[int, ...]) -> Iterator[Rearrangement]:
    rank = len(wanted)
    seen: set[tuple[int, ...]] = set()
    last_to_first = (0, rank - 1, *range(1, rank - 1))
    first_to_last = (0, *range(2, rank), 1)
    likely = [tuple(range(rank)), last_to_first, first_to_last]
    if rank == 4 and wanted != present:
        likely = [last_to_first, first_to_last, tuple(range(rank))]
    fixed = ((0, *rest) for rest in itertools.permutations(range(1, rank)))
    free = itertools.permutations(range(rank)) if wanted[:1] != present[:1] else iter(())
    for order in itertools.chain(likely, fixed, free):
        if order in seen or len(order) != rank:
            continue
        seen.add(order)
        if tuple(present[axis] for axis in order) == wanted:
            yield Rearrangement(order=order) if order != tuple(range(rank)) else IDENTITY


def _move(present: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    at = next((axis for axis in range(1, len(present)) if present[axis] != 1), 1)
    rest = [axis for axis in range(1, len(present)) if axis != at]
    to = next((axis for axis in range(1, len(wanted)) if wanted[axis] != 1), 1)
    return (0, *rest[: to - 1], at, *rest[to - 1 :])


def _flatten(axes: Axes) -> list[Atom]:
    return [atom for each in axes for atom in each]


def _with_batch(shape: Sequence[int], axes: Axes) -> tuple[int, ...]:
    """Return a shape in which the axis of the batch is -1."""
    return tuple(
        -1 if any(name == BATCH for name, _ in atoms) else length
        for length, atoms in zip(shape, axes, strict=True)
    )
