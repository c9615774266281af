"""Another layer's tensor was read: the right values of another row.

Where the layers behind it are right as well, `changed_in_place` and `called_twice` say more; where
it is what the layer itself reads, the layer does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import instead
from parity.network import kinds

NAME = "another-tensor-captured"
NOTHING_DONE = "layer-left-out"


def candidates(case: Case) -> Iterator[Candidate]:
    own = [case.name_of(tensor) for tensor in case.layer.inputs]
    for name, tensor in case.tensors.items():
        if name == case.row.name or tensor.shape != case.actual.shape:
            continue
        if name not in own:
            yield Candidate(
                NAME,
                instead(tensor),
                f"What was captured is the tensor of {name}",
                f"{case.label}: pair it in the table with the layer that it is, and its call, "
                "`name#1`",
                0.12,
                whole=True,
            )
        elif not kinds.joins_branches(case.layer.kind):
            # A sum that gives one of its inputs leaves out the others, as `merge` says.
            yield Candidate(
                NOTHING_DONE,
                instead(tensor),
                f"It gives what it reads, the tensor of {name}, as it is",
                f"{case.label}: apply the {case.layer.kind} here; if it is applied, pair this row "
                "with it and not with the layer before",
                0.12,
                whole=True,
            )
