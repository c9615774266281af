"""The layers that fail in isolation, and the results of explaining them."""

from __future__ import annotations

from dataclasses import dataclass

from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array
from parity.explain.proof.search import Explanation
from parity.network.table import Row
from parity.numerics.distance import measure_error
from parity.numerics.floor import Floor


@dataclass(frozen=True)
class IsolatedFailure:
    """A row that a subject fails on the reference's input, its floor and its error in floors."""

    subject: str
    row: Row
    floor: Floor
    x_floor: float


@dataclass(frozen=True)
class Finding:
    """The result of explaining one failure.

    `layer` is None where the reference's layer cannot be evaluated alone; nothing was tried then.
    """

    failure: IsolatedFailure
    layer: FailingLayer | None
    explanation: Explanation | None
    nondeterministic: bool = False
    """Whether a layer without an explanation gives other values in a second run."""


def equal_within_rounding(actual: Array, expected: Array, floor: Floor, limit: float) -> bool:
    """Return whether two runs of one layer differ by at most the rounding of both."""
    error = measure_error(actual=actual, expected=expected)
    return not error.mismatch and error.rel_l2 <= 2.0 * limit * floor.rel_l2
