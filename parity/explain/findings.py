"""A layer that is wrong by itself, and what was found of it."""

from __future__ import annotations

from dataclasses import dataclass

from parity.explain.proof.case import Case
from parity.explain.proof.layer import Array
from parity.explain.proof.search import Explanation
from parity.network.table import Row
from parity.numerics.distance import measure_error
from parity.numerics.floor import Floor


@dataclass(frozen=True)
class Wrong:
    """A layer that is wrong by itself: the subject, its row, its floor and its error in floors."""

    subject: str
    row: Row
    floor: Floor
    x_floor: float


@dataclass(frozen=True)
class Finding:
    """What explaining one wrong layer gave."""

    wrong: Wrong
    case: Case | None
    explanation: Explanation | None
    changes: bool = False
    """Whether a layer that is not explained gives other values when it is run again."""


def close(actual: Array, expected: Array, floor: Floor, limit: float) -> bool:
    """Whether two runs of one layer are apart by no more than both may round."""
    apart = measure_error(actual=actual, expected=expected)
    return not apart.mismatch and apart.rel_l2 <= 2.0 * limit * floor.rel_l2
