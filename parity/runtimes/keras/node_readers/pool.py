"""Readers of pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.conv import pad_window
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    decode_text,
    first_data,
    has_channels_last,
    image_axes,
    register_reader,
    spatial_values,
)


@register_reader("max_pool", "average_pool")
def _read_pool(event: Event) -> NodeReading:
    given = event.arguments
    kernel, strides = given["pool_size"], given["strides"]
    return _pool(
        event,
        kernel,
        kernel if strides is None else strides,
        decode_text(given["padding"]),
        is_max=event.name == "max_pool",
        last=has_channels_last(event),
    )


@register_reader("MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D")
def _read_tf_pool(event: Event) -> NodeReading | None:
    given, last = event.arguments, has_channels_last(event)
    if "ksize" not in given:
        return None
    part = slice(1, -1) if last else slice(2, None)
    return _pool(
        event,
        list(given["ksize"])[part],
        list(given["strides"])[part],
        decode_text(given["padding"]),
        is_max=event.name.startswith("Max"),
        last=last,
        explicit=list(given.get("explicit_paddings") or ()),
    )


def _pool(
    event: Event,
    kernel: Any,
    strides: Any,
    padding: str,
    *,
    is_max: bool,
    last: bool,
    explicit: Sequence[int] = (),
) -> NodeReading:
    data = first_data(event)
    spatial = len(data.shape) - 2
    size, steps, ones = (
        spatial_values(kernel, spatial),
        spatial_values(strides, spatial),
        [1] * spatial,
    )
    pairs = pad_window(data, size, steps, ones, padding, explicit, last=last)
    hyperparameters: dict[str, Any] = {
        "kernel": size,
        "stride": steps,
        "padding": pairs,
        "ceil": False,
    }
    if is_max:
        hyperparameters["dilation"] = ones
    elif any(map(any, pairs)):
        # An average counts no padding in TensorFlow.
        hyperparameters["count_padding"] = False
    axes = image_axes(len(data.shape), last=last)
    return NodeReading(
        "max_pool" if is_max else "avg_pool", hyperparameters, axes=axes, input_axes=axes
    )


@register_reader(
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
)
def _read_global_pool(event: Event) -> NodeReading:
    data, last = first_data(event), event.layer.data_format == "channels_last"
    rank = len(data.shape)
    kind = "global_avg_pool" if "Average" in event.name else "global_max_pool"
    axes = image_axes(rank if event.layer.keepdims else 2, last=last)
    return NodeReading(
        kind, {"size": [1] * (rank - 2)}, axes=axes, input_axes=image_axes(rank, last=last)
    )


@register_reader("adaptive_average_pool", "adaptive_max_pool")
def _read_adaptive_pool(event: Event) -> NodeReading:
    data = first_data(event)
    size = spatial_values(event.arguments["output_size"], len(data.shape) - 2)
    kind = "global_avg_pool" if event.name == "adaptive_average_pool" else "global_max_pool"
    axes = image_axes(len(data.shape), last=has_channels_last(event))
    return NodeReading(kind, {"size": size}, axes=axes, input_axes=axes)
