"""Readers of operations that reshape, join, pad or repeat a tensor."""

from __future__ import annotations

import math
from typing import Any

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    Reading,
    channels_first,
    channels_last,
    decode_text,
    has_channels_last,
    image_axes,
    read_integers,
    reads,
    sort_axes,
)


@reads("Reshape")
def _read_reshape(event: Event) -> Reading:
    before, after = event.operands[0].shape, event.outputs[0].shape
    settings = frozenset({1})
    if len(before) > 1 and after == (before[0], math.prod(before[1:])):
        return Reading("flatten", settings=settings)
    hyper: dict[str, Any] = {}
    if after[:1] == before[:1]:
        target = [int(n) for n in after[1:]]
        # As the kind has it: an image's channels first.
        hyper["target"] = [target[-1], *target[:-1]] if len(target) == 3 else target
        hyper["channels_last"] = True
    else:
        hyper["full_shape"] = [int(n) for n in after]
    return Reading("reshape", hyper, settings=settings)


@reads("Transpose")
def _read_transpose(event: Event) -> Reading | None:
    perm = read_integers(event, 1)
    return None if perm is None else Reading("transpose", {"perm": perm}, settings=frozenset({1}))


@reads("Squeeze")
def _read_squeeze(event: Event) -> Reading:
    shape = event.operands[0].shape
    axes = sort_axes([int(a) for a in event.arguments.get("squeeze_dims") or ()], len(shape))
    return Reading("squeeze", {"axes": axes or [i for i, n in enumerate(shape) if n == 1]})


@reads("ExpandDims")
def _read_unsqueeze(event: Event) -> Reading | None:
    axis = read_integers(event, 1)
    if axis is None:
        return None
    return Reading("unsqueeze", {"axes": sort_axes(axis, len(event.outputs[0].shape))},
                   settings=frozenset({1}))  # fmt: skip


@reads("BroadcastTo")
def _read_expand(event: Event) -> Reading:
    shape = [int(n) for n in event.outputs[0].shape]
    return Reading("expand", {"full_shape": shape}, settings=frozenset({1}))


@reads("ConcatV2", "Pack")
def _read_concat(event: Event) -> Reading | None:
    rank = len(event.outputs[0].shape)
    if event.name == "Pack":
        return Reading("stack", {"axis": int(event.arguments.get("axis") or 0) % rank})
    last = len(event.operands) - 1
    axis = read_integers(event, last)
    if axis is None:
        return None
    hyper = {"axis": axis[0] % rank}
    return Reading("concat", hyper, settings=frozenset({last}), keeps_axes=True)


@reads("Pad", "PadV2", "MirrorPad")
def _read_pad(event: Event) -> Reading | None:
    """An image's channels, the last axis, are left out where they are not padded."""
    flat = read_integers(event, 1)
    if flat is None:
        return None
    pairs = [flat[i : i + 2] for i in range(0, len(flat), 2)]
    hyper: dict[str, Any] = {"mode": "constant", "value": 0.0}
    if event.name == "MirrorPad":
        if decode_text(event.arguments["mode"]) != "REFLECT":
            return None
        hyper = {"mode": "reflect"}
    elif event.name == "PadV2":
        value = event.operands[2].value
        if value is None:
            return None
        hyper["value"] = float(value)
    axes = ""
    if len(pairs) > 2 and not any(pairs[0]):
        if not any(pairs[-1]):
            pairs, axes = pairs[1:-1], channels_last(len(pairs))
        elif not any(pairs[1]):
            pairs, axes = pairs[2:], channels_first(len(pairs))
    return Reading("pad", {"padding": pairs, **hyper}, axes=axes, input_axes=axes,
                   settings=frozenset({1, 2}))  # fmt: skip


@reads("Tile")
def _read_tile(event: Event) -> Reading | None:
    repeats = read_integers(event, 1)
    if repeats is None:
        return None
    return Reading("tile", {"repeats": repeats}, keeps_axes=True, settings=frozenset({1}))


@reads("DepthToSpace", "SpaceToDepth")
def _read_blocks(event: Event) -> Reading:
    """TensorFlow's channels are block-major, PyTorch's and the kind's channel-major."""
    last = has_channels_last(event)
    axes = image_axes(4, last=last)
    kind = "depth_to_space" if event.name == "DepthToSpace" else "space_to_depth"
    hyper = {"block": int(event.arguments["block_size"]), "block_major": True}
    return Reading(kind, hyper, axes=axes, input_axes=axes)


@reads("Cast")
def _read_cast(event: Event) -> Reading:
    return Reading("cast", {"dtype": event.outputs[0].dtype}, keeps_axes=True)
