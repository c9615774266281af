"""Another layer's tensor was read: a layer object called twice, or a tensor changed after the hook.

The second call overwrites what was kept of the first; an operation in place changes what a hook
kept a reference to. The layers behind it are right.
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
            f"{case.label}: count its calls (`name#0`, `name#1`, … in the table), and clone what "
            "a hook keeps",
            0.12,
        )


def _constant(tensor: Array) -> Step:
    return lambda output: tensor
