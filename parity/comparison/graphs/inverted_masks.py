"""Comparisons that a subject writes the other way round: `x > 0` where the reference has `x == 0`.

Its mask is false where the reference's is true, and what reads it is turned round too. Given the
reference's mask instead of its own, all that follows would differ: such rows are given no tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.points import GraphTable
from parity.network import kinds
from parity.numerics.capture import CaptureReader
from parity.numerics.points import ComparisonPoint


def find_inverted_masks(
    table: GraphTable, points: Sequence[ComparisonPoint], reference: Path, subject: Path
) -> frozenset[str]:
    """Return the rows of comparisons whose output is the opposite of the reference's throughout.

    `reference` and `subject` are captures of the isolated rows.
    """
    rows = [
        each.row for each in points if kinds.properties(table.by_name(each.row).kind).gives_truth
    ]
    found = set()
    with contextlib.ExitStack() as stack:
        known, own = (stack.enter_context(CaptureReader(path)) for path in (reference, subject))
        for row in rows:
            if row not in known or row not in own:
                continue
            expected, actual = np.asarray(known.read(row)), np.asarray(own.read(row))
            if expected.shape == actual.shape and expected.size and _are_opposite(expected, actual):
                found.add(row)
    return frozenset(found)


def _are_opposite(expected: NDArray[Any], actual: NDArray[Any]) -> bool:
    first, second = expected.astype(np.float64), actual.astype(np.float64)
    is_mask = bool(np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all())
    return is_mask and bool((first + second == 1.0).all())
