"""Readers of convolutions."""

from __future__ import annotations

from typing import Any

from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    channels_first,
    read_layer,
    register_reader,
    repeat_per_axis,
    shape_of,
)


@register_reader("conv1d conv2d conv3d")
def _conv(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    kernel = shape_of(given["weight"])
    dilation = repeat_per_axis(given.get("dilation", 1), rank - 2)
    groups = int(given.get("groups", 1))
    padding = given.get("padding", 0)
    if padding == "valid":
        pairs = [[0, 0]] * (rank - 2)
    elif padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel[2:], strict=True)]
        pairs = [[total // 2, total - total // 2] for total in totals]
    else:
        pairs = [[p, p] for p in repeat_per_axis(padding, rank - 2)]
    hyper = {
        "kernel": list(kernel[2:]),
        "stride": repeat_per_axis(given.get("stride", 1), rank - 2),
        "padding": pairs,
        "dilation": dilation,
        "groups": groups,
        "bias": given.get("bias") is not None,
        "in": kernel[1] * groups,
        "out": kernel[0],
    }
    return read_layer(name, hyper, given, "weight=kernel bias=bias", channels_first(rank))


@register_reader("conv_transpose1d conv_transpose2d conv_transpose3d")
def _conv_transpose(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    kernel, groups = shape_of(given["weight"]), int(given.get("groups", 1))
    padding = repeat_per_axis(given.get("padding", 0), rank - 2)
    more = repeat_per_axis(given.get("output_padding", 0), rank - 2)
    hyper = {
        "kernel": list(kernel[2:]),
        "stride": repeat_per_axis(given.get("stride", 1), rank - 2),
        "padding": [[p, p - extra] for p, extra in zip(padding, more, strict=True)],
        "dilation": repeat_per_axis(given.get("dilation", 1), rank - 2),
        "groups": groups,
        "bias": given.get("bias") is not None,
        "in": kernel[0],
        "out": kernel[1] * groups,
    }
    return read_layer(name, hyper, given, "weight=kernel bias=bias", channels_first(rank))


def read_window(given: Arguments, rank: int) -> dict[str, Any]:
    kernel = repeat_per_axis(given["kernel_size"], rank - 2)
    stride = given.get("stride")
    # An empty stride is the kernel's size.
    stride = kernel if stride is None or stride in ((), []) else repeat_per_axis(stride, rank - 2)
    padding = repeat_per_axis(given.get("padding", 0), rank - 2)
    return {
        "kernel": kernel,
        "stride": stride,
        "padding": [[p, p] for p in padding],
        "ceil": bool(given.get("ceil_mode", False)),
    }
