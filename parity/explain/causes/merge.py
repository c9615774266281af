"""A sum that lacks an input or adds it twice, or that is a product, a mean, a difference.

A missing shortcut raises no error, since both inputs of a sum have one shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, LayerChange, replace_output

MISSING, TWICE, OTHER = "branch-missing", "branch-twice", "merge-other"

_VERBS = {"add": "adds", "multiply": "multiplies"}


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kind, inputs = failing.reference_layer.kind, failing.reference_layer.inputs
    if kind not in _VERBS or len(inputs) != 2 or inputs[0].shape != inputs[1].shape:
        return
    names = _name_inputs(failing)
    for index, name in enumerate(names):
        yield Candidate(
            MISSING,
            _select_inputs((1 - index,)),
            f"{_capitalise(name)} is missing: the result is {names[1 - index]} alone",
            f"{failing.label}: {kind} both inputs",
            0.6,
        )
        yield Candidate(
            TWICE,
            _select_inputs((0, 1, index)),
            f"{_capitalise(name)} is added twice",
            f"{failing.label}: {kind} each input once",
            0.4,
        )
        yield Candidate(
            TWICE,
            _select_inputs((index, index)),
            f"{_capitalise(name)} is added twice, and {names[1 - index]} is missing",
            f"{failing.label}: {kind} both inputs",
            0.4,
        )
    for verb, output in _other_merges(inputs):
        if verb != _VERBS[kind]:
            yield Candidate(
                OTHER,
                replace_output(output),
                f"It {verb} its inputs, where the reference {_VERBS[kind]} them",
                f"{failing.label}: {kind} them",
                0.4,
                replaces_output=True,
            )


def _name_inputs(failing: FailingLayer) -> list[str]:
    """Return a name for each input: the row that computes it, if that is nearby."""
    found = [failing.find_row_of(tensor) for tensor in failing.reference_layer.inputs]
    first, second = (f"the tensor of {name}" if name else None for name in found)
    return [first or "its first input", second or "its second input"]


def _capitalise(text: str) -> str:
    return text[0].upper() + text[1:]


def _select_inputs(indices: Sequence[int]) -> LayerChange:
    return lambda layer: replace(layer, inputs=tuple(layer.inputs[i] for i in indices))


def _other_merges(inputs: Sequence[Array]) -> Iterator[tuple[str, Array]]:
    one, other = inputs
    yield "adds", one + other
    yield "multiplies", one * other
    yield "averages", (one + other) / 2
    yield "takes the larger of", np.maximum(one, other)
    yield "subtracts", one - other
    yield "subtracts", other - one
