"""Another layer's tensor was read: the right values of another row.

Where the layers behind it are right as well, `changed_in_place` and `called_twice` say more.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.case import Candidate, Case
from parity.explain.layer import Array, Step, then

NAME = "another-tensor-captured"


def candidates(case: Case) -> Iterator[Candidate]:
    for name, tensor in case.tensors.items():
        if name == case.row.name or tensor.shape != case.actual.shape:
            continue
        yield Candidate(
            NAME,
            then(_constant(tensor)),
            f"What was captured is the tensor of {name}",
            f"{case.label}: pair it in the table with the layer that it is, and its call, `name#1`",
            0.12,
        )


def _constant(tensor: Array) -> Step:
    return lambda output: tensor
