"""The passes over a long folder: how many of its items are compared at a time."""

from __future__ import annotations

import itertools

MAX_ITEMS = 16
"""The most items of one pass."""


def exceeds_one_pass(count: int) -> bool:
    """Return whether `count` items need more than one pass."""
    return count > MAX_ITEMS


def split_into_passes(count: int) -> list[slice]:
    """Return the items of each pass over `count` of them: the fewest passes, of equal size.

    Passes are equal because the floor of a last pass of two items would be measured on few values.
    """
    number = -(-count // MAX_ITEMS)
    ends = [count * index // number for index in range(number + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]
