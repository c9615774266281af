"""Channels in another order: RGB for BGR at the input, or a permuted output."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Transform, transform_input, transform_output

NAME = "channel-order"
PERMUTED = "output-permuted"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if failing.reference_layer.inputs[0].ndim < 2 or failing.expected.ndim < 2:
        return
    channels = failing.reference_layer.inputs[0].shape[1]
    if failing.reference_layer.inputs[0].ndim == 4:
        image = "RGB for BGR" if channels == 3 else "the input's channels in reverse"
        yield Candidate(
            NAME,
            transform_input(lambda data: data[:, ::-1]),
            f"It reads {image}",
            f"{failing.label}: pass the channels in the same order to both frameworks",
            0.5 if channels == 3 else 0.1,
        )
    remedy = "keep the output's axes in the reference's order"
    if failing.reference_layer.kind == "concat":
        remedy = "join its inputs in the reference's order"
    for text, change in _permutations(failing):
        yield Candidate(
            PERMUTED,
            transform_output(change),
            text,
            f"{failing.label}: {remedy}",
            0.8 if failing.pattern.permuted else 0.05,
            describes_values=True,
        )


def _permutations(failing: FailingLayer) -> Iterator[tuple[str, Transform]]:
    yield "The output's channels are in reverse order", lambda out: out[:, ::-1]
    if failing.expected.ndim == 4:
        yield "Height and width of the output are swapped", lambda out: out.swapaxes(2, 3)
        yield "The output is upside down", lambda out: out[:, :, ::-1]
        yield "The output is mirrored", lambda out: out[:, :, :, ::-1]
    if failing.pattern.permuted:
        order = _match_channels(failing)
        if order is not None:
            yield "The output's channels are in another order", lambda out: out[:, order]


def _match_channels(failing: FailingLayer) -> np.ndarray[tuple[int], np.dtype[np.intp]] | None:
    """Return the reference's channel of each of the subject's, matched by their sums."""
    actual, expected = _sums(failing.actual), _sums(failing.expected)
    order = np.empty(len(actual), np.intp)
    order[np.argsort(actual)] = np.argsort(expected)
    return order


def _sums(tensor: Array) -> Array:
    return np.asarray(tensor.sum(axis=(0, *range(2, tensor.ndim))))
