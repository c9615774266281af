"""Another order of flattening before a dense layer: NHWC for NCHW (MMdnn#250)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, transform_input

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


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    source = failing.reference_layer.inputs[0]
    image = source.shape[1:] if source.ndim == 4 else failing.image_shape
    if (
        failing.reference_layer.kind not in ("dense", "flatten")
        or image is None
        or math.prod(image[1:]) < 2
    ):
        return
    yield Candidate(
        NAME,
        transform_input(partial(_channels_last, image=image)),
        "The image is flattened in the order height, width, channel; the weights expect "
        "channel, height, width",
        f"{failing.label}: permute the weight's inputs once when it is copied, or "
        f"{_LAST[failing.framework]}",
        0.7,
    )
    yield Candidate(
        NAME,
        transform_input(partial(_channels_first, image=image)),
        "The image is flattened in the order channel, height, width; the weights expect "
        "height, width, channel",
        f"{failing.label}: copy the weight without permuting its inputs, or "
        f"{_FIRST[failing.framework]}",
        0.65,
    )


def _channels_last(data: Array, image: tuple[int, ...]) -> Array:
    """Return the values in the order (N, H, W, C), in their old shape."""
    return data.reshape(-1, *image).transpose(0, 2, 3, 1).reshape(data.shape)


def _channels_first(data: Array, image: tuple[int, ...]) -> Array:
    """Return the values, read as (N, H, W, C), in the order (N, C, H, W), in their old shape."""
    channels, height, width = image
    return data.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(data.shape)
