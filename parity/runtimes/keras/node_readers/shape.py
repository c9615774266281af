"""Readers of operations that reshape, join, pad or repeat a tensor."""

from __future__ import annotations

import math
from typing import Any

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    channels_first,
    channels_last,
    decode_text,
    has_channels_last,
    image_axes,
    read_integers,
    register_reader,
    sort_axes,
)


@register_reader("Reshape")
def _read_reshape(event: Event) -> NodeReading:
    before, after = event.operands[0].shape, event.outputs[0].shape
    setting_inputs = frozenset({1})
    if len(before) > 1 and after == (before[0], math.prod(before[1:])):
        return NodeReading("flatten", setting_inputs=setting_inputs)
    hyperparameters: dict[str, Any] = {}
    if after[:1] == before[:1]:
        target = [int(n) for n in after[1:]]
        # As the kind has it: an image's channels first.
        hyperparameters["target"] = [target[-1], *target[:-1]] if len(target) == 3 else target
        hyperparameters["channels_last"] = True
    else:
        hyperparameters["full_shape"] = [int(n) for n in after]
    return NodeReading("reshape", hyperparameters, setting_inputs=setting_inputs)


@register_reader("Transpose")
def _read_transpose(event: Event) -> NodeReading | None:
    perm = read_integers(event, 1)
    return (
        None
        if perm is None
        else NodeReading("transpose", {"perm": perm}, setting_inputs=frozenset({1}))
    )


@register_reader("Squeeze")
def _read_squeeze(event: Event) -> NodeReading:
    shape = event.operands[0].shape
    axes = sort_axes([int(a) for a in event.arguments.get("squeeze_dims") or ()], len(shape))
    return NodeReading("squeeze", {"axes": axes or [i for i, n in enumerate(shape) if n == 1]})


@register_reader("ExpandDims")
def _read_unsqueeze(event: Event) -> NodeReading | None:
    axis = read_integers(event, 1)
    if axis is None:
        return None
    return NodeReading(
        "unsqueeze",
        {"axes": sort_axes(axis, len(event.outputs[0].shape))},
        setting_inputs=frozenset({1}),
    )


@register_reader("BroadcastTo")
def _read_expand(event: Event) -> NodeReading:
    shape = [int(n) for n in event.outputs[0].shape]
    return NodeReading("expand", {"full_shape": shape}, setting_inputs=frozenset({1}))


@register_reader("ConcatV2", "Pack")
def _read_concat(event: Event) -> NodeReading | None:
    rank = len(event.outputs[0].shape)
    if event.name == "Pack":
        return NodeReading("stack", {"axis": int(event.arguments.get("axis") or 0) % rank})
    last = len(event.operands) - 1
    axis = read_integers(event, last)
    if axis is None:
        return None
    hyperparameters = {"axis": axis[0] % rank}
    return NodeReading("concat", hyperparameters, setting_inputs=frozenset({last}), keeps_axes=True)


@register_reader("Pad", "PadV2", "MirrorPad")
def _read_pad(event: Event) -> NodeReading | None:
    """An image's channels, the last axis, are left out where they are not padded."""
    flat = read_integers(event, 1)
    if flat is None:
        return None
    pairs = [flat[i : i + 2] for i in range(0, len(flat), 2)]
    hyperparameters: dict[str, Any] = {"mode": "constant", "value": 0.0}
    if event.name == "MirrorPad":
        hyperparameters = {"mode": decode_text(event.arguments["mode"]).lower()}
    elif event.name == "PadV2":
        value = event.operands[2].value
        if value is None:
            return None
        hyperparameters["value"] = float(value)
    axes = ""
    if len(pairs) > 2 and not any(pairs[0]):
        if not any(pairs[-1]):
            pairs, axes = pairs[1:-1], channels_last(len(pairs))
        elif not any(pairs[1]):
            pairs, axes = pairs[2:], channels_first(len(pairs))
    return NodeReading(
        "pad",
        {"padding": pairs, **hyperparameters},
        axes=axes,
        input_axes=axes,
        setting_inputs=frozenset({1, 2}),
    )


@register_reader("Tile")
def _read_tile(event: Event) -> NodeReading | None:
    repeats = read_integers(event, 1)
    if repeats is None:
        return None
    return NodeReading("tile", {"repeats": repeats}, keeps_axes=True, setting_inputs=frozenset({1}))


@register_reader("DepthToSpace", "SpaceToDepth")
def _read_blocks(event: Event) -> NodeReading:
    """TensorFlow's channels are block-major, PyTorch's and the kind's channel-major."""
    last = has_channels_last(event)
    axes = image_axes(4, last=last)
    kind = "depth_to_space" if event.name == "DepthToSpace" else "space_to_depth"
    hyperparameters = {"block": int(event.arguments["block_size"]), "block_major": True}
    return NodeReading(kind, hyperparameters, axes=axes, input_axes=axes)


@register_reader("Cast")
def _read_cast(event: Event) -> NodeReading:
    return NodeReading("cast", {"dtype": event.outputs[0].dtype}, keeps_axes=True)
