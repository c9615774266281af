"""Readers of padding, resizing and pixel shuffling."""

from __future__ import annotations

from typing import Any

from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    channels_first,
    read_layer,
    register_reader,
    repeat_per_axis,
)


@register_reader("pixel_shuffle pixel_unshuffle")
def _pixel_shuffle(name: str, given: Arguments) -> Operation:
    factor = given.get("factor", given.get("upscale_factor", given.get("downscale_factor")))
    return read_layer(name, {"block": int(factor)}, given, "", channels_first(4))


@register_reader("pad")
def _pad(name: str, given: Arguments) -> Operation:
    """PyTorch lists the pairs from the last axis on."""
    flat = [int(item) for item in given["pad"]]
    pairs = [flat[i : i + 2] for i in range(0, len(flat), 2)][::-1]
    rank = given["input"].tensor.ndim
    # An image has two pairs, whether both are padded or not.
    pairs = [[0, 0]] * (rank - 2 - len(pairs)) + pairs
    hyper: dict[str, Any] = {"padding": pairs, "mode": given.get("mode", "constant")}
    if hyper["mode"] == "constant":
        hyper["value"] = float(given.get("value") or 0.0)
    return Operation("pad", hyper, [given["input"]], keeps_axes=True)


@register_reader("interpolate upsample")
def _interpolate(name: str, given: Arguments) -> Operation | None:
    data = given["input"]
    rank, mode = data.tensor.ndim, given.get("mode", "nearest").replace("-", "_")
    if given.get("antialias") or mode == "area":
        return None
    hyper: dict[str, Any] = {"mode": mode, "align_corners": bool(given.get("align_corners"))}
    size, scale = given.get("size"), given.get("scale_factor")
    if size is not None:
        hyper["size"] = repeat_per_axis(size, rank - 2)
    elif scale is not None and not given.get("recompute_scale_factor"):
        values = list(scale) if isinstance(scale, tuple | list) else [scale] * (rank - 2)
        hyper["scale"] = [float(value) for value in values]
    else:
        return None
    return read_layer("interpolate", hyper, given, "", channels_first(rank))
