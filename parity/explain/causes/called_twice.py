"""One layer object called several times: what was kept of one call is that of another.

A capture by layer name has room for one tensor, and the last call overwrites the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity.explain.proof.case import Candidate, Case, Shape
from parity.explain.proof.layer import instead
from parity.network.structure import Difference

NAME = "called-twice"


def candidates(case: Case) -> Iterator[Candidate]:
    if not case.recovers:
        return
    for name in case.calls:
        if name not in case.tensors:
            continue
        yield Candidate(
            NAME,
            instead(case.tensors[name]),
            f"Its layer object is called {len(case.calls) + 1} times, and what was kept is the "
            f"call that makes {name}",
            f"{case.label}: index the calls in the table (`name#0`, `name#1`, …), and keep one "
            "tensor a call",
            0.97,
            whole=True,
        )


def shapes(found: Sequence[Difference]) -> Iterator[Shape]:
    """Calls that the table does not know of: which of them is meant is left to chance."""
    calls: dict[tuple[str, str], list[str]] = {}
    for item in found:
        name, marked, _ = str(item.found).partition("#")
        if item.layer is not None and marked:
            calls.setdefault((item.subject, name), []).append(str(item.found))
    for (subject, name), surplus in calls.items():
        count = 1 + max(int(call.partition("#")[2]) for call in surplus)
        yield Shape(
            NAME,
            subject,
            tuple(surplus),
            f"`{name}` is one layer object that is called {count} times, and the table has no row "
            f"for {len(surplus)} of the calls",
            "give each call a row (`name#0`, `name#1`, …), or make a layer for each",
            {"calls": float(count), "layers": float(len(surplus))},
        )
