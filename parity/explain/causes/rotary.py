"""Rotary positions that turn other features, other pairs, or by other angles.

The angles are measured on what both models turn, however either writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from parity.explain.proof import rotations
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, replace_output, with_input
from parity.explain.proof.rotations import Rotation

NAME = "rotary-positions"
NEEDS_NO_OPERATOR = True


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if not failing.earlier_tensors:
        return
    yield from _propose_of_output(failing)
    yield from _propose_of_inputs(failing)


def _propose_of_output(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.actual.shape != failing.expected.shape:
        return
    for data in failing.earlier_tensors:
        if data.size != failing.expected.size:
            continue
        # Complex numbers have their parts apart: two neighbours.
        own, other = (each.reshape(data.shape) for each in (failing.expected, failing.actual))
        wanted = rotations.find_rotation(data, own)
        found = None if wanted is None else rotations.find_rotation(data, other)
        if wanted is None or found is None:
            continue
        texts = rotations.describe_difference(wanted, found)
        if texts is not None:
            yield Candidate(
                NAME,
                replace_output(found.apply(data).reshape(failing.expected.shape)),
                texts[0],
                f"{failing.label}: {texts[1]}",
                0.7,
                # An angle and a length for each pair.
                fitted_values=2 * found.factors.size,
                replaces_output=True,
            )


def _propose_of_inputs(failing: FailingLayer) -> Iterator[Candidate]:
    """Yield that the subject's own operation reads what is turned otherwise."""
    stated, wanted = failing.subject_layer, failing.reference_layer
    if stated is None or stated.kind != wanted.kind or len(stated.inputs) != len(wanted.inputs):
        return
    changes: list[tuple[int, Array]] = []
    texts: dict[str, str] = {}
    turns_heads = _has_heads_last(stated) != _has_heads_last(wanted)
    for place, (own, read) in enumerate(zip(wanted.inputs, stated.inputs, strict=True)):
        other = read.swapaxes(-2, -3) if turns_heads and read.ndim > 3 else read
        if own.shape != other.shape or own.ndim < 3:
            continue
        for data in failing.earlier_tensors:
            if data.shape != own.shape:
                continue
            found = _compare(data, own, other)
            if found is not None:
                texts.setdefault(*found[1])
                changes.append((place, found[0]))
                break
    if texts:
        yield Candidate(
            NAME,
            partial(_read_turned, changes=changes),
            "; ".join(texts),
            f"{failing.label}: {'; '.join(texts.values())}",
            0.98,
        )


def _has_heads_last(layer: Layer) -> bool:
    """Return whether attention reads (N, T, heads, C), not (N, heads, T, C)."""
    return bool(layer.hyper.get("time_before_heads"))


def _compare(data: Array, own: Array, other: Array) -> tuple[Array, tuple[str, str]] | None:
    """Return what the subject reads, and in words how it is turned otherwise than `own`."""
    wanted = rotations.find_rotation(data, own)
    if wanted is None:
        return None
    if np.array_equal(data.astype(np.float32), other.astype(np.float32)):
        return data, ("What it reads is not turned by positions", "turn it as the reference does")
    found: Rotation | None = rotations.find_rotation(data, other)
    texts = None if found is None else rotations.describe_difference(wanted, found)
    if found is None or texts is None:
        return None
    return found.apply(data), texts


def _read_turned(layer: Layer, changes: Sequence[tuple[int, Array]]) -> Layer:
    for place, value in changes:
        layer = with_input(layer, place=place, value=value)
    return layer
