"""Readers of convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.network import windows
from parity.runtimes.keras.events import Event, Operand
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    decode_text,
    find_weight,
    has_channels_last,
    image_axes,
    register_reader,
    spatial_values,
)


@register_reader("conv", "convolve")
def _read_conv(event: Event) -> NodeReading:
    given = event.arguments
    return _convolution(
        event, _operand(given, "inputs"), _operand(given, "kernel"), given["strides"],
        decode_text(given["padding"]), given["dilation_rate"], last=has_channels_last(event),
    )  # fmt: skip


def _operand(given: Mapping[str, Any], name: str) -> Operand:
    """Return an argument that is a tensor; a Keras variable is given as its shape alone."""
    value = given[name]
    if isinstance(value, Operand):
        return value
    return Operand(tuple(value.shape), str(value.dtype))


def _convolution(
    event: Event, data: Operand, kernel: Operand, strides: Any, padding: str, dilations: Any,
    *, last: bool, explicit: Sequence[int] = (), depthwise: bool = False,
) -> NodeReading:  # fmt: skip
    """Return a convolution whose kernel is (..., I, O), or (..., C, M) of a depthwise one."""
    rank = len(data.shape)
    spatial = rank - 2
    size = kernel.shape[:spatial]
    steps, spread = spatial_values(strides, spatial), spatial_values(dilations, spatial)
    channels = data.shape[-1] if last else data.shape[1]
    if depthwise:
        groups, out = channels, kernel.shape[-2] * kernel.shape[-1]
    else:
        groups, out = channels // kernel.shape[-2], kernel.shape[-1]
    is_depthwise = depthwise or groups == channels > 1
    hyperparameters = {
        "kernel": [int(k) for k in size],
        "stride": steps,
        "padding": pad_window(data, size, steps, spread, padding, explicit, last=last),
        "dilation": spread,
        "groups": int(groups),
        "bias": False,
        "in": int(channels),
        "out": int(out),
    }
    order = "... C M" if depthwise else "... 1 (C M)" if is_depthwise else "... I O"
    axes = image_axes(rank, last=last)
    return NodeReading(
        "depthwise_conv" if is_depthwise else "conv",
        hyperparameters,
        _kernel_role(event),
        {"kernel": order},
        axes=axes,
        input_axes=axes,
    )


def _kernel_role(event: Event) -> dict[int, str]:
    place = find_weight(event)
    return {} if place is None else {place: "kernel"}


def pad_window(
    data: Operand, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int],
    padding: str, explicit: Sequence[int] = (), *, last: bool,
) -> list[list[int]]:  # fmt: skip
    """Return the elements around the data of this size: [[top, bottom], [left, right]]."""
    spatial = len(data.shape) - 2
    start = 1 if last else 2
    if padding.upper() == "EXPLICIT":
        pairs = [list(explicit[i : i + 2]) for i in range(0, len(explicit), 2)]
        return [[int(each) for each in pair] for pair in pairs[start : start + spatial]]
    if padding.upper() != "SAME":
        return [[0, 0] for _ in range(spatial)]
    sizes = data.shape[start : start + spatial]
    return [
        list(windows.same_padding(n, kernel=k, stride=s, dilation=d))
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]


@register_reader("depthwise_conv")
def _read_depthwise(event: Event) -> NodeReading:
    given = event.arguments
    return _convolution(
        event,
        _operand(given, "inputs"),
        _operand(given, "kernel"),
        given["strides"],
        decode_text(given["padding"]),
        given["dilation_rate"],
        last=has_channels_last(event),
        depthwise=True,
    )


@register_reader("depthwise_conv2d", "depthwise_conv2d_v2")
def _read_tf_depthwise(event: Event) -> NodeReading | None:
    given = event.arguments
    if not isinstance(given["padding"], str):
        return None
    strides = [int(each) for each in given["strides"]]
    last = has_channels_last(event)
    strides = strides[1:3] if last else strides[2:4]
    return _convolution(
        event, _operand(given, "input"), _operand(given, "filter"), strides, given["padding"],
        given["dilations"], last=last, depthwise=True,
    )  # fmt: skip


@register_reader("Conv2D", "Conv3D", "DepthwiseConv2dNative")
def _read_tf_conv(event: Event) -> NodeReading:
    given, last = event.arguments, has_channels_last(event)
    part = slice(1, -1) if last else slice(2, None)
    return _convolution(
        event, event.operands[0], event.operands[1], list(given["strides"])[part],
        decode_text(given["padding"]), list(given["dilations"])[part], last=last,
        explicit=list(given.get("explicit_paddings") or ()),
        depthwise=event.name.startswith("Depthwise"),
    )  # fmt: skip


@register_reader("conv_transpose")
def _read_conv_transpose(event: Event) -> NodeReading:
    given = event.arguments
    return _transposed(
        event, _operand(given, "inputs"), _operand(given, "kernel"), given["strides"],
        decode_text(given["padding"]), given["dilation_rate"],
    )  # fmt: skip


@register_reader("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def _read_tf_conv_transpose(event: Event) -> NodeReading | None:
    given, part = event.arguments, slice(1, -1) if has_channels_last(event) else slice(2, None)
    padding = decode_text(given["padding"])
    if padding == "EXPLICIT" or len(event.operands) < 3:
        return None
    strides, dilations = list(given["strides"])[part], list(given["dilations"])[part]
    data, kernel = event.operands[2], event.operands[1]
    reading = _transposed(event, data, kernel, strides, padding, dilations)
    reading.setting_inputs = frozenset({0})
    return reading


def _transposed(
    event: Event, data: Operand, kernel: Operand, strides: Any, padding: str, dilations: Any
) -> NodeReading:
    """Return a transposed convolution, whose kernel is (..., O, I)."""
    last = has_channels_last(event)
    rank = len(data.shape)
    spatial, start = rank - 2, 1 if last else 2
    size = [int(k) for k in kernel.shape[:spatial]]
    steps, spread = spatial_values(strides, spatial), spatial_values(dilations, spatial)
    output = event.outputs[0].shape
    crop = [
        list(windows.transposed_crop(n, m, kernel=k, stride=s, dilation=d,
                                     same=padding.upper() == "SAME"))
        for n, m, k, s, d in zip(data.shape[start : start + spatial],
                                 output[start : start + spatial], size, steps, spread, strict=True)
    ]  # fmt: skip
    hyperparameters = {
        "kernel": size,
        "stride": steps,
        "padding": crop,
        "dilation": spread,
        "groups": 1,
        "bias": False,
        "in": int(kernel.shape[-1]),
        "out": int(kernel.shape[-2]),
    }
    axes = image_axes(rank, last=last)
    return NodeReading(
        "conv_transpose",
        hyperparameters,
        _kernel_role(event),
        {"kernel": "... O I"},
        axes=axes,
        input_axes=axes,
    )
