"""Axis orders, written as einops writes them, and the reordering of a tensor from one to another.

    "O I H W"       four axes by name
    "O I ..."       one to three spatial axes behind them
    "(C M) 1 H W"   an axis that joins two, M running fastest, and an axis of length 1
    "I O1 O2"       an axis of another order, O, in its parts, the last of which runs fastest

The spatial axes may have names in one order, `H W I O`, and be `...` in the other.

Permutations alone give a view; an axis that joins two is reshaped, which copies where the input is
not contiguous. The functions use only the methods `transpose` and `reshape`, so NumPy itself is
not imported.
"""

from __future__ import annotations

import functools
import math
import re
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]

Axes = tuple[tuple[str, ...], ...]
"""The names that each axis joins: one as a rule, none for an axis of length 1."""

SPATIAL = "..."
MAX_SPATIAL = 3


def reorder(array: Array, source: str, target: str, *, shape: Sequence[int] = ()) -> Array:
    """Return `array`, whose axes are in the order `source`, with its axes in the order `target`.

    `shape`, the shape of the result, gives the sizes of axes that `source` joins; where it is
    absent or does not fit, the first of them takes the whole axis. Raises `ValueError` if the
    array does not fit `source`.
    """
    if source == target:
        return array
    split, order, joined = _plan(tuple(array.shape), source, target, tuple(shape))
    parts = array if len(split) == array.ndim else array.reshape(split)
    moved = parts.transpose(order)
    return moved if moved.shape == joined else moved.reshape(joined)


def reorder_shape(shape: Sequence[int], source: str, target: str) -> tuple[int, ...]:
    """Return the shape of the result of `reorder` for an array of this shape."""
    return tuple(shape) if source == target else _plan(tuple(shape), source, target, ())[2]


def permutation(source: str, target: str) -> tuple[int, ...]:
    """Return the axes of `source` in the order of `target`, as `numpy.transpose` takes them."""
    before, after = source.split(), target.split()
    return tuple(before.index(name) for name in after)


def fits(order: str, shape: Sequence[int]) -> bool:
    """Return whether a tensor of this shape can have its axes in this order."""
    if len(shape) not in ranks(order):
        return False
    axes = _expand(order, len(shape) - _fixed(order))
    return all(names or size == 1 for names, size in zip(axes, shape, strict=True))


def ranks(order: str) -> tuple[int, ...]:
    """Return how many axes a tensor in this order can have."""
    fixed = _fixed(order)
    if SPATIAL not in order:
        return (fixed,)
    return tuple(fixed + spatial for spatial in range(1, MAX_SPATIAL + 1))


def names(order: str, rank: int) -> Axes:
    """Return the names of each axis of a tensor of this rank, the spatial ones numbered from 0."""
    return _expand(order, rank - _fixed(order))


def split_words(order: str) -> tuple[str, ...]:
    """Return the word of each axis; one that joins several, `(H W)`, is one word."""
    return _tokens(order)


def rename_indices(equation: str) -> str:
    """Return an equation of `einsum` with its indices named a, b, … as they appear.

    One without an output is returned as it is: there the alphabet decides the order.
    """
    equation = equation.replace(" ", "")
    if "->" not in equation:
        return equation
    letters = dict.fromkeys(re.findall("[A-Za-z]", equation))
    names = dict(zip(letters, string.ascii_letters, strict=False))
    return "".join(names.get(each, each) for each in equation)


def describe(order: str) -> str:
    """Return an order for a message: `(O, I, ...)`, `(C·M, 1, H, W)`."""
    names = (token.strip("()").replace(" ", "·") for token in _tokens(order))
    return f"({', '.join(names)})"


def _plan(
    shape: tuple[int, ...], source: str, target: str, wanted: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the shape of the separate axes, their permutation, and the shape of the result."""
    source, target = _match(source, target), _match(target, source)
    if not fits(source, shape):
        raise ValueError(f"a shape of {shape} does not have the axes {describe(source)}")
    spatial = len(shape) - _fixed(source)
    before, after = _expand(source, spatial), _expand(target, spatial)
    known: dict[str, int] = {}
    if len(wanted) == len(after):
        known = {names[0]: s for names, s in zip(after, wanted, strict=True) if len(names) == 1}
    sizes: dict[str, int] = {}
    for names, size in zip(before, shape, strict=True):
        sizes.update(zip(names, _factors(names, size, known), strict=True))
    separate = [name for names in before for name in names]
    order = tuple(separate.index(name) for names in after for name in names)
    joined = tuple(math.prod(sizes[name] for name in names) for names in after)
    return tuple(sizes[name] for name in separate), order, joined


@functools.cache
def _match(order: str, other: str) -> str:
    """Return `order` with the names that `other` has for its spatial axes and for parts of axes."""
    own, names = _tokens(order), re.findall(r"[A-Za-z]\w*", other)
    known = re.findall(r"[A-Za-z]\w*", order)
    found = []
    for token in own:
        if token == SPATIAL and SPATIAL not in other:
            roots = {name.rstrip("0123456789") for name in names} & set(known)
            found += [n for n in names if n not in known and n.rstrip("0123456789") not in roots]
        elif token.isalpha() and token not in names:
            parts = [n for n in names if n != token and n.rstrip("0123456789") == token]
            found.append(f"({' '.join(sorted(parts))})" if parts else token)
        else:
            found.append(token)
    return " ".join(found)


def _factors(names: tuple[str, ...], size: int, known: Mapping[str, int]) -> tuple[int, ...]:
    """Return the size of each of the axes that one axis of `size` joins."""
    if not names:
        return ()
    sizes = tuple(known.get(name, 0) for name in names)
    fitting = len(names) > 1 and math.prod(sizes) == size
    return sizes if fitting else (size, *(1,) * (len(names) - 1))


@functools.cache
def _tokens(order: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\([^)]*\)|\S+", order))


def _fixed(order: str) -> int:
    return sum(token != SPATIAL for token in _tokens(order))


@functools.cache
def _expand(order: str, spatial: int) -> Axes:
    """Return the names of each axis, the spatial ones numbered."""
    axes: list[tuple[str, ...]] = []
    for token in _tokens(order):
        if token == SPATIAL:
            axes += [(f"{SPATIAL}{axis}",) for axis in range(spatial)]
        elif token == "1":
            axes.append(())
        else:
            axes.append(tuple(token.strip("()").split()))
    return tuple(axes)
