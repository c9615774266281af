"""A sum that lacks an input or adds it twice, or that is a product, a mean, a difference.

A missing shortcut raises no error, since both inputs of a sum have one shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, LayerChange, replace_output

MISSING, TWICE, OTHER = "branch-missing", "branch-twice", "merge-other"

_VERBS = {"add": "adds", "multiply": "multiplies"}


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kind, inputs = failing.reference_layer.kind, failing.reference_layer.inputs
    shape = failing.expected.shape
    # Keras adds a batch of one as a vector.
    if kind not in _VERBS or len(inputs) != 2 or any(math.prod(shape) != x.size for x in inputs):
        return
    one, other = (x if x.shape == shape else x.reshape(shape) for x in inputs)
    names = _name_inputs(failing)
    for index, name in enumerate(names):
        yield Candidate(
            MISSING,
            _select_inputs((1 - index,), shape),
            f"{_capitalise(name)} is missing: the result is {names[1 - index]} alone",
            f"{failing.label}: {kind} both inputs",
            0.6,
        )
        yield Candidate(
            TWICE,
            _select_inputs((0, 1, index), shape),
            f"{_capitalise(name)} is added twice",
            f"{failing.label}: {kind} each input once",
            0.4,
        )
        yield Candidate(
            TWICE,
            _select_inputs((index, index), shape),
            f"{_capitalise(name)} is added twice, and {names[1 - index]} is missing",
            f"{failing.label}: {kind} both inputs",
            0.4,
        )
    for verb, change in _other_merges(one, other):
        if verb != _VERBS[kind]:
            yield Candidate(
                OTHER,
                change,
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


def _select_inputs(indices: Sequence[int], shape: tuple[int, ...]) -> LayerChange:
    """Return the change to these inputs, each with the shape of the output."""
    return lambda layer: replace(
        layer, inputs=tuple(layer.inputs[i].reshape(shape) for i in indices)
    )


def _other_merges(one: Array, other: Array) -> Iterator[tuple[str, LayerChange]]:
    yield "adds", _merge_by("add", one, other)
    yield "multiplies", _merge_by("multiply", one, other)
    yield "averages", replace_output((one + other) / 2)
    yield "takes the larger of", _merge_by("maximum", one, other)
    yield "subtracts", _merge_by("sub", one, other)
    yield "subtracts", _merge_by("sub", other, one)


def _merge_by(kind: str, *inputs: Array) -> LayerChange:
    return lambda layer: replace(layer, kind=kind, inputs=inputs)
