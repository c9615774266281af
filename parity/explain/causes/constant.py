"""Another constant in an operation: 0.4 for 0.5, another epsilon of a formula in the code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Layer
from parity.network.kind import COMPLEX

NAME = "constant"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    stated, wanted = failing.subject_layer, failing.reference_layer
    if stated is None or stated.kind != wanted.kind or len(stated.inputs) != len(wanted.inputs):
        return
    for index in sorted(wanted.constants & stated.constants):
        before, after = wanted.find_number(index), stated.find_number(index)
        if before is not None and after is not None and before != after:
            yield Candidate(
                NAME,
                partial(_with_number, place=index, stated=stated),
                f"Its constant is {after:g}, not {before:g}",
                f"{failing.label}: write {before:g}",
                0.95,
                place=index,
            )


def _with_number(layer: Layer, place: int, stated: Layer) -> Layer:
    """Return the reference's layer with the subject's number, which may be complex in one alone."""
    inputs = (*layer.inputs[:place], stated.inputs[place], *layer.inputs[place + 1 :])
    return replace(layer, inputs=inputs, hyper={**layer.hyper, **_flags(stated)})


def _flags(layer: Layer) -> dict[str, Any]:
    return {COMPLEX: layer.hyper[COMPLEX]} if COMPLEX in layer.hyper else {}
