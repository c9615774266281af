"""Flattened in another order before a dense layer: NHWC against NCHW (MMdnn#250)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import Array, given

NAME = "flatten-order"

_LAST = {
    "keras": "put Permute((3, 1, 2)) before Flatten",
    "torch": "flatten x in its own order, without a permute(0, 2, 3, 1) before it",
    "onnx": "put a Transpose to (N, C, H, W) before the Flatten or Reshape",
}
_FIRST = {
    "keras": "flatten without the Permute before it",
    "torch": "flatten x.permute(0, 2, 3, 1)",
    "onnx": "put a Transpose to (N, H, W, C) before the Flatten or Reshape",
}


def candidates(case: Case) -> Iterator[Candidate]:
    source = case.layer.inputs[0]
    image = source.shape[1:] if source.ndim == 4 else case.flattened
    if case.layer.kind not in ("dense", "flatten") or image is None or math.prod(image[1:]) < 2:
        return
    yield Candidate(
        NAME,
        given(partial(_channels_last, image=image)),
        "The image is flattened in the order height, width, channel, and the weights are for "
        "channel, height, width",
        f"{case.label}: permute the weight's inputs once when it is copied, or "
        f"{_LAST[case.framework]}",
        0.7,
    )
    yield Candidate(
        NAME,
        given(partial(_channels_first, image=image)),
        "The image is flattened in the order channel, height, width, and the weights are for "
        "height, width, channel",
        f"{case.label}: copy the weight's inputs as they are, without permuting them, or "
        f"{_FIRST[case.framework]}",
        0.65,
    )


def _channels_last(data: Array, image: tuple[int, ...]) -> Array:
    """The values in the order of NHWC, in the shape that they had."""
    return data.reshape(-1, *image).transpose(0, 2, 3, 1).reshape(data.shape)


def _channels_first(data: Array, image: tuple[int, ...]) -> Array:
    """The values, taken for NHWC, in the order of NCHW, in the shape that they had."""
    channels, height, width = image
    return data.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(data.shape)
