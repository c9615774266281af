"""Readers of resizing."""

from __future__ import annotations

from typing import Any

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    channels_last,
    first_data,
    image_axes,
    register_reader,
    spatial_values,
)


@register_reader("UpSampling1D", "UpSampling2D", "UpSampling3D")
def _read_upsampling(event: Event) -> NodeReading:
    layer, rank = event.layer, len(first_data(event).shape)
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    mode = getattr(layer, "interpolation", "nearest")
    scale = [float(each) for each in spatial_values(layer.size, rank - 2)]
    mode = "keys_bicubic" if mode == "bicubic" else mode
    axes = image_axes(rank, last=last)
    hyperparameters = {"scale": scale, "mode": mode, "align_corners": False}
    return NodeReading("upsample", hyperparameters, axes=axes, input_axes=axes)


@register_reader("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic")
def _read_resize(event: Event) -> NodeReading:
    """Resizes whose corners are aligned, or whose pixels have their centres at halves, are those
    of PyTorch; TensorFlow 1's own are neither."""
    size = [int(n) for n in event.outputs[0].shape[1:3]]
    given = event.arguments
    half = bool(given.get("half_pixel_centers"))
    mode = {"ResizeBilinear": "bilinear", "ResizeBicubic": "bicubic"}.get(event.name, "nearest")
    hyperparameters: dict[str, Any] = {
        "size": size,
        "align_corners": bool(given.get("align_corners")),
    }
    if mode == "nearest":
        mode = "nearest_exact" if half else "nearest"
    elif not half and not hyperparameters["align_corners"]:
        mode = f"corner_{mode}"
    elif mode == "bicubic" and half:
        # PyTorch's coefficient of the cubic is −0.75, Keys's −0.5.
        mode = "keys_bicubic"
    axes = channels_last(4)
    return NodeReading(
        "upsample",
        {"mode": mode, **hyperparameters},
        axes=axes,
        input_axes=axes,
        setting_inputs=frozenset({1}),
    )
