"""Readers of sums and products with a weight."""

from __future__ import annotations

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    find_weight,
    has_channels_last,
    image_axes,
    register_reader,
)


@register_reader("BiasAdd")
def _read_bias_add(event: Event) -> NodeReading | None:
    if event.operands[1].weight is None:
        return NodeReading("add", keeps_axes=True)
    axes = image_axes(len(event.operands[0].shape), last=has_channels_last(event))
    return NodeReading("bias_add", {}, {1: "bias"}, axes=axes, input_axes=axes)


@register_reader("AddV2", "Add")
def _read_add(event: Event) -> NodeReading:
    place = find_weight(event)
    if place is None:
        return NodeReading("add", keeps_axes=True)
    return NodeReading("bias_add", {}, {place: "bias"}, keeps_axes=True)


@register_reader("Mul")
def _read_multiply(event: Event) -> NodeReading:
    place = find_weight(event)
    if place is None:
        return NodeReading("multiply", keeps_axes=True)
    return NodeReading("layer_scale", {}, {place: "gamma"}, keeps_axes=True)
