"""The search for a case's cause among all causes that there are."""

from __future__ import annotations

from collections.abc import Callable

from parity.explain import causes
from parity.explain.causes import exported_graph
from parity.explain.proof import search
from parity.explain.proof.case import Case
from parity.explain.proof.search import Explanation, attempt

__all__ = ["attempt", "explain", "last"]


def explain(
    case: Case, *, seconds: float = 1.5, ask: Callable[[], Case] | None = None
) -> Explanation:
    """Name the cause or the two causes of `case`, as `proof.search.explain` does."""
    return search.explain(case, causes.candidates, seconds=seconds, ask=ask)


def last(case: Case) -> Explanation | None:
    """What is proved by the graph's own word alone, once nothing else explains the case."""
    return search.first_proved(case, exported_graph.candidates)
