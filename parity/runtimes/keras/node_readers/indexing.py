"""Readers of operations that take, split or move parts of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.runtimes.keras.events import Event, Operand
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    channels_last,
    find_weight,
    first_data,
    read_integers,
    register_reader,
    sort_axes,
)


@register_reader("take")
def _read_take(event: Event) -> NodeReading | None:
    """Keras's function, which counts negative indices from the end."""
    table, rows = event.arguments["x"], event.arguments["indices"]
    axis = event.arguments["axis"]
    if not isinstance(table, Operand) or not isinstance(rows, Operand) or axis is None:
        return None
    if table.weight is not None and axis == 0 and len(event.operands) == 2:
        hyperparameters = {"in": 0, "out": math.prod(table.shape[1:])}
        place = find_weight(event)
        axes = channels_last(len(rows.shape) + 1) if len(table.shape) == 2 else ""
        roles = {} if place is None else {place: "embeddings"}
        return NodeReading("embedding", hyperparameters, roles, axes=axes)
    if not table.id or len(rows.shape) != 1 or axis is None:
        return None
    return NodeReading("gather", {"axis": int(axis) % len(table.shape)}, keeps_axes=True)


@register_reader("GatherV2", "Gather", "ResourceGather")
def _read_gather(event: Event) -> NodeReading | None:
    table, rows = event.operands[0], event.operands[1]
    axis = read_integers(event, 2) or [0]
    if table.weight is not None and axis == [0] and table.weight.is_exact:
        width = event.outputs[0].shape[len(rows.shape) :]
        hyperparameters = {"in": 0, "out": math.prod(width)}
        axes = channels_last(len(rows.shape) + 1) if len(width) == 1 else ""
        return NodeReading(
            "embedding",
            hyperparameters,
            {0: "embeddings"},
            axes=axes,
            setting_inputs=frozenset({2}),
        )
    if event.arguments.get("batch_dims") or len(rows.shape) != 1:
        return None
    rank = max(len(table.shape), 1)
    return NodeReading(
        "gather", {"axis": axis[0] % rank}, setting_inputs=frozenset({2}), keeps_axes=True
    )


@register_reader("StridedSlice")
def _read_strided_slice(event: Event) -> NodeReading | None:
    begin, end, strides = (read_integers(event, index) for index in (1, 2, 3))
    given, shape = event.arguments, event.operands[0].shape
    if begin is None or end is None or strides is None or given.get("new_axis_mask"):
        return None
    ellipsis = int(given.get("ellipsis_mask") or 0)
    places = list(range(len(begin)))
    if ellipsis:
        at = ellipsis.bit_length() - 1
        missing = len(shape) - (len(begin) - 1)
        places = [p if p < at else p + missing - 1 for p in places]
    parts, squeeze, turned = [], [], []
    for index, axis in enumerate(places):
        if ellipsis >> index & 1:
            continue
        size = shape[axis]
        if int(given.get("shrink_axis_mask") or 0) >> index & 1:
            start = begin[index] % size
            parts.append((axis, start, start + 1, 1))
            squeeze.append(axis)
            continue
        first = None if int(given.get("begin_mask") or 0) >> index & 1 else begin[index]
        last = None if int(given.get("end_mask") or 0) >> index & 1 else end[index]
        start, stop, step = slice(first, last, strides[index]).indices(size)
        if step < 0:
            if (start, stop, step) != (size - 1, -1, -1):
                return None
            turned.append(axis)
            continue
        if (start, stop, step) != (0, size, 1):
            parts.append((axis, start, max(stop, start), step))
    setting_inputs = frozenset({1, 2, 3})
    if not turned:
        return _slice(parts, squeeze, setting_inputs)
    if parts or squeeze:
        return None
    return NodeReading("flip", {"axes": turned}, keeps_axes=True, setting_inputs=setting_inputs)


def _slice(
    parts: Sequence[tuple[int, int, int, int]], squeeze: list[int], setting_inputs: frozenset[int]
) -> NodeReading:
    hyperparameters: dict[str, Any] = {
        name: [part[index] for part in parts]
        for index, name in enumerate(("axes", "starts", "ends", "steps"))
    }
    return NodeReading(
        "slice",
        {**hyperparameters, "squeeze": squeeze},
        setting_inputs=setting_inputs,
        keeps_axes=not squeeze,
    )


@register_reader("Slice")
def _read_slice(event: Event) -> NodeReading | None:
    begin, shape = read_integers(event, 1), event.operands[0].shape
    if begin is None:
        return None
    out = event.outputs[0].shape
    parts = [
        (axis, start, start + made, 1)
        for axis, (start, made, size) in enumerate(zip(begin, out, shape, strict=True))
        if (start, made) != (0, size)
    ]
    return _slice(parts, [], frozenset({1, 2}))


@register_reader("Split", "SplitV", "Unpack")
def _read_split(event: Event) -> NodeReading | None:
    """`Unpack` also removes the axis."""
    if event.name == "Unpack":
        rank = len(event.operands[0].shape)
        axis = int(event.arguments.get("axis") or 0) % rank
        return NodeReading("split", {"axis": axis, "sizes": [1] * len(event.outputs)})
    place = 0 if event.name == "Split" else 2
    stated = read_integers(event, place)
    if stated is None:
        return None
    data = first_data(event)
    axis = stated[0] % len(data.shape)
    sizes = [int(output.shape[axis]) for output in event.outputs]
    setting_inputs = frozenset({0} if event.name == "Split" else {1, 2})
    return NodeReading(
        "split", {"axis": axis, "sizes": sizes}, setting_inputs=setting_inputs, keeps_axes=True
    )


@register_reader("roll", "Roll")
def _read_roll(event: Event) -> NodeReading | None:
    rank = len(first_data(event).shape)
    if event.name == "Roll":
        shifts, axes = read_integers(event, 1), read_integers(event, 2)
    else:
        shifts, axes = (
            None if each is None or isinstance(each, Operand) else np.atleast_1d(each).tolist()
            for each in (event.arguments["shift"], event.arguments["axis"])
        )
    if shifts is None or axes is None:
        return None
    hyperparameters = {"shifts": [int(s) for s in shifts], "axes": [int(a) % rank for a in axes]}
    return NodeReading("roll", hyperparameters, keeps_axes=True, setting_inputs=frozenset({1, 2}))


@register_reader("ReverseV2")
def _read_flip(event: Event) -> NodeReading | None:
    axes = read_integers(event, 1)
    if axes is None:
        return None
    hyperparameters = {"axes": sort_axes(axes, len(event.operands[0].shape))}
    return NodeReading("flip", hyperparameters, keeps_axes=True, setting_inputs=frozenset({1}))
