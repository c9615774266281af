"""Readers of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parity.network import windows
from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import (
    ROLES,
    NodeReading,
    NodeView,
    list_present_roles,
    read_fused_activation,
    register_reader,
)


def window(view: NodeView, kernel: Sequence[int], sizes: Sequence[int]) -> dict[str, Any]:
    """Return stride, padding and dilation of a window; `auto_pad` is resolved by the sizes."""
    rank = len(kernel)
    strides = list(view.get("strides", [1] * rank))
    dilations = list(view.get("dilations", [1] * rank))
    mode = view.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER") and len(sizes) == rank:
        pads = [
            windows.same_padding(n, kernel=k, stride=s, dilation=d)
            for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        padding = [list(pair if mode == "SAME_UPPER" else reversed(pair)) for pair in pads]
    elif mode == "VALID":
        padding = [[0, 0] for _ in range(rank)]
    else:
        flat = list(view.get("pads", [0] * 2 * rank))
        padding = [[flat[axis], flat[axis + rank]] for axis in range(rank)]
    return {"kernel": list(kernel), "stride": strides, "padding": padding, "dilation": dilations}


@register_reader("Conv", "FusedConv", "ConvInteger", "QLinearConv")
def _read_conv(view: NodeView) -> NodeReading:
    roles = list_present_roles(view)
    at = next(index for index, role in ROLES[view.operation].items() if role == "kernel")
    shape, groups = view.shape(at), int(view.get("group", 1))
    if view.static(at) is None or len(shape) < 3:
        return NodeReading(OPAQUE, roles=roles)
    hyperparameters = window(view, shape[2:], view.shape(0)[2:])
    hyperparameters |= {
        "groups": groups,
        "bias": "bias" in roles.values(),
        "in": shape[1] * groups,
        "out": shape[0],
        "activation": read_fused_activation(view),
    }
    if view.operation in ("ConvInteger", "QLinearConv"):
        hyperparameters["quantized"] = True
    kind = "depthwise_conv" if groups == shape[1] * groups > 1 else "conv"
    return NodeReading(kind, hyperparameters, roles)


@register_reader("ConvTranspose")
def _read_transposed(view: NodeView) -> NodeReading:
    """The padding is what is cropped; it follows from the output's shape."""
    shape, groups = view.shape(1), int(view.get("group", 1))
    roles = list_present_roles(view)
    if view.static(1) is None or len(shape) < 3:
        return NodeReading(OPAQUE, roles=roles)
    hyperparameters = window(view, shape[2:], ())
    mode = view.get("auto_pad", "NOTSET")
    padding = []
    for axis, size in enumerate(view.shape(0)[2:]):
        kernel, stride, dilation = (
            hyperparameters[n][axis] for n in ("kernel", "stride", "dilation")
        )
        whole = windows.transposed_extent(size, kernel=kernel, stride=stride, dilation=dilation)
        total = whole - view.output_shape[2 + axis]
        if mode.startswith("SAME") or view.get("output_shape") is not None:
            # The specification puts the odd one at the end for SAME_UPPER, else at the beginning.
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
        else:
            begin = hyperparameters["padding"][axis][0]
        padding.append([begin, total - begin])
    hyperparameters |= {
        "padding": padding,
        "groups": groups,
        "bias": 2 in roles,
        "in": shape[0],
        "out": shape[1] * groups,
        "activation": "linear",
    }
    return NodeReading("conv_transpose", hyperparameters, roles)
