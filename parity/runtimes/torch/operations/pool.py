"""Readers of pools."""

from __future__ import annotations

from parity.runtimes.torch.operations.conv import read_window
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    channels_first,
    read_layer,
    register_reader,
    repeat_per_axis,
    shape_of,
)


@register_reader("max_pool1d max_pool2d max_pool3d")
def _max_pool(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    hyper = read_window(given, rank)
    hyper["dilation"] = repeat_per_axis(given.get("dilation", 1), rank - 2)
    return read_layer(name, hyper, given, "", channels_first(rank))


@register_reader("avg_pool1d avg_pool2d avg_pool3d")
def _avg_pool(name: str, given: Arguments) -> Operation | None:
    if given.get("divisor_override") is not None:
        return None
    rank = int(name[-2]) + 2
    hyper = read_window(given, rank)
    if any(map(any, hyper["padding"])):
        hyper["count_padding"] = bool(given.get("count_include_pad", True))
    return read_layer(name, hyper, given, "", channels_first(rank))


@register_reader(
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"
)
def _adaptive_pool(name: str, given: Arguments) -> Operation:
    rank = int(name[-2]) + 2
    size, shape = given["output_size"], shape_of(given["input"])[2 - rank :]
    sizes = list(size) if isinstance(size, tuple | list) else [size] * (rank - 2)
    sizes = sizes * (rank - 2) if len(sizes) == 1 else sizes
    found = [int(old if new is None else new) for new, old in zip(sizes, shape, strict=True)]
    return read_layer(name, {"size": found}, given, "", channels_first(rank))
