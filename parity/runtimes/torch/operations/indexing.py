"""Readers of functions that take, split or move parts of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    channels_last,
    list_axes,
    normalise_axis,
    read_layer,
    register_reader,
    shape_of,
)
from parity.runtimes.torch.operations.reduction import remove_axes


@register_reader("embedding")
def _embedding(name: str, given: Arguments) -> Operation:
    rows, width = shape_of(given["weight"])
    axes = channels_last(given["input"].tensor.ndim + 1)
    roles = "weight=embeddings"
    return read_layer(name, {"in": rows, "out": width}, given, roles, axes, input_axes="")


@register_reader("narrow select")
def _narrow(name: str, given: Arguments) -> Operation | None:
    data, rank = given["input"], given["input"].tensor.ndim
    axis = normalise_axis(given["dim"], rank)
    size = shape_of(data)[axis]
    start = given["start"] if name == "narrow" else given["index"]
    if isinstance(start, Operand):
        return None
    start = int(start) % size
    end = start + (int(given["length"]) if name == "narrow" else 1)
    squeeze = [axis] if name == "select" else []
    return _sliced(data, [(axis, start, end, 1)], squeeze, given["_axes"])


def _sliced(
    data: Operand, parts: Sequence[tuple[int, int, int, int]], squeeze: list[int], axes: str
) -> Operation:
    hyper: dict[str, Any] = {
        name: [part[index] for part in parts]
        for index, name in enumerate(("axes", "starts", "ends", "steps"))
    }
    return Operation(
        "slice", {**hyper, "squeeze": squeeze}, [data], axes=remove_axes(axes, squeeze)
    )


@register_reader("getitem")
def _getitem(name: str, given: Arguments) -> Operation | None:
    """Slices and numbers; an index by tensors is a gather of one axis, or opaque."""
    data = given["input"]
    index = given["index"] if isinstance(given["index"], tuple) else (given["index"],)
    shape = shape_of(data)
    taken = sum(item is not None and item is not Ellipsis for item in index)
    gathered = [item for item in index if isinstance(item, Operand)]
    if gathered:
        return _gathered(data, index, gathered, len(shape) - taken)
    parts: list[tuple[int, int, int, int]] = []
    squeeze: list[int] = []
    added: list[int] = []
    axis = place = 0
    for item in index:
        if item is None:
            added.append(place)
            place += 1
        elif item is Ellipsis:
            axis += len(shape) - taken
            place += len(shape) - taken
        elif isinstance(item, slice):
            if any(isinstance(x, Operand) for x in (item.start, item.stop, item.step)):
                return None
            start, end, step = item.indices(shape[axis])
            if (start, end, step) != (0, shape[axis], 1):
                parts.append((axis, start, max(end, start), step))
            axis, place = axis + 1, place + 1
        elif isinstance(item, int) and not isinstance(item, bool):
            start = item % shape[axis]
            parts.append((axis, start, start + 1, 1))
            squeeze.append(axis)
            axis += 1
        else:
            return None
    if added and not parts:
        return Operation("unsqueeze", {"axes": added}, [data])
    if added:
        return None
    return _sliced(data, parts, squeeze, given["_axes"])


def _gathered(
    data: Operand, index: Sequence[Any], gathered: Sequence[Operand], missing: int
) -> Operation | None:
    """Return the gather along one axis by one tensor of integers, all other axes as they are."""
    whole = all(
        isinstance(item, Operand) or item is Ellipsis or item == slice(None) for item in index
    )
    if len(gathered) != 1 or not whole or gathered[0].tensor.dtype == torch.bool:
        return None
    axis = 0
    for item in index:
        if isinstance(item, Operand):
            break
        axis += missing if item is Ellipsis else 1
    return Operation("gather", {"axis": axis}, [data, gathered[0]])


@register_reader("index_select")
def _index_select(name: str, given: Arguments) -> Operation:
    axis = normalise_axis(given["dim"], given["input"].tensor.ndim)
    return Operation("gather", {"axis": axis}, [given["input"], given["index"]])


@register_reader("split split_with_sizes chunk tensor_split unbind")
def _split(name: str, given: Arguments) -> Operation:
    # The sizes are those of the outputs: they are filled in by `complete`.
    # `torch.split` alone calls what it splits `tensor`.
    data = given["input"] if "input" in given else given["tensor"]
    axis = normalise_axis(given.get("dim", 0), data.tensor.ndim)
    return Operation("split", {"axis": axis}, [data], keeps_axes=name != "unbind")


@register_reader("roll")
def _roll(name: str, given: Arguments) -> Operation | None:
    if given.get("dims") in (None, (), []):
        return None
    rank = given["input"].tensor.ndim
    dims, shifts = given["dims"], given["shifts"]
    axes = [normalise_axis(d, rank) for d in (dims if isinstance(dims, tuple | list) else (dims,))]
    moved = [int(s) for s in (shifts if isinstance(shifts, tuple | list) else (shifts,))]
    return Operation("roll", {"shifts": moved, "axes": axes}, [given["input"]], keeps_axes=True)


@register_reader("flip")
def _flip(name: str, given: Arguments) -> Operation:
    axes = list_axes(given["dims"], given["input"].tensor.ndim)
    return Operation("flip", {"axes": axes}, [given["input"]], keeps_axes=True)
