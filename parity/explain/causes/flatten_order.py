"""Flattened in another order before a dense layer: NHWC against NCHW (MMdnn#250)."""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.case import Candidate, Case
from parity.explain.layer import Array, given

NAME = "flatten-order"


def candidates(case: Case) -> Iterator[Candidate]:
    source = case.layer.inputs[0]
    if case.layer.kind not in ("dense", "flatten") or source.ndim != 4:
        return
    yield Candidate(
        NAME,
        given(_channels_last),
        "The image is flattened in the order height, width, channel, and the weights are for "
        "channel, height, width",
        f"{case.label}: permute the weight's inputs once when it is copied, or put "
        "Permute((3, 1, 2)) before Flatten",
        0.7,
    )


def _channels_last(data: Array) -> Array:
    """The values in the order of NHWC, in the shape that they had."""
    return data.transpose(0, 2, 3, 1).reshape(data.shape)
