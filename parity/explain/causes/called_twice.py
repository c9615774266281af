"""One layer object that is called several times: the captured output is another call's.

A capture by layer name holds one tensor, and the last call overwrites the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity.explain.proof.candidate import Candidate, StructuralCause
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_output
from parity.network.structure import Difference

NAME = "called-twice"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if not failing.recovers_downstream:
        return
    for name in failing.other_calls:
        if name not in failing.nearby_outputs:
            continue
        yield Candidate(
            NAME,
            replace_output(failing.nearby_outputs[name]),
            f"Its layer object is called {len(failing.other_calls) + 1} times, and the captured "
            f"output is that of {name}",
            f"{failing.label}: number the calls in the table (`name#0`, `name#1`, …), and capture "
            "each call",
            0.97,
            replaces_output=True,
        )


def find_structural_causes(differences: Sequence[Difference]) -> Iterator[StructuralCause]:
    """Yield layer objects with more calls than the table has rows for."""
    calls: dict[tuple[str, str], list[str]] = {}
    for item in differences:
        name, marker, _ = str(item.found).partition("#")
        if item.layer is not None and marker:
            calls.setdefault((item.subject, name), []).append(str(item.found))
    for (subject, name), surplus in calls.items():
        count = 1 + max(int(call.partition("#")[2]) for call in surplus)
        yield StructuralCause(
            NAME,
            subject,
            tuple(surplus),
            f"`{name}` is one layer object that is called {count} times, and the table has no row "
            f"for {len(surplus)} of the calls",
            "add a row for each call (`name#0`, `name#1`, …), or create one layer for each",
            {"calls": float(count), "layers": float(len(surplus))},
        )
