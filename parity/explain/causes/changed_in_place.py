"""A tensor that was changed in place after a hook had kept it: one layer is off, the next is fine.

What was kept is then what a later layer made of it, and everything computed from it is right. So it
is with a layer that applies an activation of its own before the one behind it, which then changes
nothing: only where a layer behind says that it works in place is this named.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import instead

NAME = "changed-in-place"


def candidates(case: Case) -> Iterator[Candidate]:
    if not case.recovers:
        return
    for name in case.in_place:
        if name in case.calls or name not in case.tensors:
            # An overwritten call of the same layer is another mistake.
            continue
        yield Candidate(
            NAME,
            instead(case.tensors[name]),
            f"What was kept of it is what {name} made of it later, in place; every layer behind "
            "it is right",
            f"{case.label}: clone what a hook keeps (output.detach().clone()), or set "
            f"inplace=False in {name}",
            # Before an activation that would be applied twice, which no later layer shows either.
            0.95,
            whole=True,
        )
