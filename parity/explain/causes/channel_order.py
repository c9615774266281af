"""Channels in another order: RGB for BGR at the input, or an output whose channels are permuted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, Step, given, then

NAME = "channel-order"
PERMUTED = "output-permuted"


def candidates(case: Case) -> Iterator[Candidate]:
    if case.layer.inputs[0].ndim < 2 or case.expected.ndim < 2:
        return
    channels = case.layer.inputs[0].shape[1]
    if case.layer.inputs[0].ndim == 4:
        image = "RGB for BGR" if channels == 3 else "the input's channels in reverse"
        yield Candidate(
            NAME,
            given(lambda data: data[:, ::-1]),
            f"It reads {image}",
            f"{case.label}: give both frameworks the channels in one order",
            0.5 if channels == 3 else 0.1,
        )
    for text, change in _outputs(case):
        yield Candidate(
            PERMUTED,
            then(change),
            text,
            f"{case.label}: keep the output's axes in the reference's order",
            0.8 if case.fingerprint.permuted else 0.05,
        )


def _outputs(case: Case) -> Iterator[tuple[str, Step]]:
    yield "The output's channels are in reverse order", lambda out: out[:, ::-1]
    if case.expected.ndim == 4:
        yield "Height and width of the output are swapped", lambda out: out.swapaxes(2, 3)
        yield "The output is upside down", lambda out: out[:, :, ::-1]
        yield "The output is mirrored", lambda out: out[:, :, :, ::-1]
    if case.fingerprint.permuted:
        order = _order(case)
        if order is not None:
            yield "The output's channels are in another order", lambda out: out[:, order]


def _order(case: Case) -> np.ndarray[tuple[int], np.dtype[np.intp]] | None:
    """Where each of the subject's channels comes from, found by the channels' sums."""
    actual, expected = _sums(case.actual), _sums(case.expected)
    order = np.empty(len(actual), np.intp)
    order[np.argsort(actual)] = np.argsort(expected)
    return order


def _sums(tensor: Array) -> Array:
    return np.asarray(tensor.sum(axis=(0, *range(2, tensor.ndim))))
