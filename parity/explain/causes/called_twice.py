"""One layer object called several times: what was kept of one call is that of another.

A capture by layer name has room for one tensor, and the last call overwrites the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.case import Candidate, Case
from parity.explain.layer import Array, Step, then

NAME = "called-twice"


def candidates(case: Case) -> Iterator[Candidate]:
    if not case.recovers:
        return
    for name in case.calls:
        if name not in case.tensors:
            continue
        yield Candidate(
            NAME,
            then(_constant(case.tensors[name])),
            f"Its layer object is called {len(case.calls) + 1} times, and what was kept is the "
            f"call that makes {name}",
            f"{case.label}: index the calls in the table (`name#0`, `name#1`, …), and keep one "
            "tensor a call",
            0.97,
        )


def _constant(tensor: Array) -> Step:
    return lambda output: tensor
