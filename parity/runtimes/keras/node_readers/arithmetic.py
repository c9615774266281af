"""Readers of sums and products with a weight."""

from __future__ import annotations

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    Reading,
    find_weight,
    has_channels_last,
    image_axes,
    reads,
)


@reads("BiasAdd")
def _read_bias_add(event: Event) -> Reading | None:
    if event.operands[1].weight is None:
        return Reading("add", keeps_axes=True)
    axes = image_axes(len(event.operands[0].shape), last=has_channels_last(event))
    return Reading("bias_add", {}, {1: "bias"}, axes=axes, input_axes=axes)


@reads("AddV2", "Add")
def _read_add(event: Event) -> Reading:
    place = find_weight(event)
    if place is None:
        return Reading("add", keeps_axes=True)
    return Reading("bias_add", {}, {place: "bias"}, keeps_axes=True)


@reads("Mul")
def _read_multiply(event: Event) -> Reading:
    place = find_weight(event)
    if place is None:
        return Reading("multiply", keeps_axes=True)
    return Reading("layer_scale", {}, {place: "gamma"}, keeps_axes=True)
