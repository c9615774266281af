"""A sum that leaves out an input or counts it twice, or that is a product, a mean, a difference.

A forgotten shortcut still runs, since both inputs of a sum have one shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Change, instead

MISSING, TWICE, OTHER = "branch-missing", "branch-twice", "merge-other"

_VERBS = {"add": "adds", "multiply": "multiplies"}


def candidates(case: Case) -> Iterator[Candidate]:
    kind, inputs = case.layer.kind, case.layer.inputs
    if kind not in _VERBS or len(inputs) != 2 or inputs[0].shape != inputs[1].shape:
        return
    names = _named(case)
    for index, name in enumerate(names):
        yield Candidate(
            MISSING,
            _of((1 - index,)),
            f"{_capital(name)} is left out: the result is {names[1 - index]} alone",
            f"{case.label}: {kind} both inputs",
            0.6,
        )
        yield Candidate(
            TWICE,
            _of((0, 1, index)),
            f"{_capital(name)} is counted twice",
            f"{case.label}: {kind} each input once",
            0.4,
        )
    for verb, made in _others(inputs):
        if verb != _VERBS[kind]:
            yield Candidate(
                OTHER,
                instead(made),
                f"It {verb} its inputs, where the reference {_VERBS[kind]} them",
                f"{case.label}: {kind} them",
                0.4,
                whole=True,
            )


def _named(case: Case) -> list[str]:
    """What each input is called: the row that makes it, where that stands near enough."""
    found = [case.name_of(tensor) for tensor in case.layer.inputs]
    first, second = (f"the tensor of {name}" if name else None for name in found)
    return [first or "its first input", second or "its second input"]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _of(indices: Sequence[int]) -> Change:
    return lambda layer: replace(layer, inputs=tuple(layer.inputs[i] for i in indices))


def _others(inputs: Sequence[Array]) -> Iterator[tuple[str, Array]]:
    one, other = inputs
    yield "adds", one + other
    yield "multiplies", one * other
    yield "averages", (one + other) / 2
    yield "takes the larger of", np.maximum(one, other)
    yield "subtracts", one - other
    yield "subtracts", other - one
