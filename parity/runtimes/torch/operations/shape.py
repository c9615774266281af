"""Readers of functions that reshape, join, permute or repeat a tensor."""

from __future__ import annotations

import math

import torch

from parity.runtimes.torch.calls import Call, Operand
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    list_axes,
    normalise_axis,
    register_reader,
    shape_of,
    split_axes,
)
from parity.runtimes.torch.operations.reduction import remove_axes


@register_reader("cat concat concatenate stack")
def _join(name: str, given: Arguments) -> Operation:
    parts = list(given["tensors"])
    rank = parts[0].tensor.ndim
    kind = "stack" if name == "stack" else "concat"
    axis = normalise_axis(given.get("dim", 0), rank + (kind == "stack"))
    return Operation(kind, {"axis": axis}, parts, keeps_axes=kind == "concat")


@register_reader("reshape view flatten unflatten view_as reshape_as")
def _reshape(name: str, given: Arguments) -> Operation | None:
    # The output's shape says it all: it is filled in by `complete`.
    if (
        isinstance(given.get("shape"), tuple)
        and given["shape"]
        and isinstance(given["shape"][0], torch.dtype)
    ):
        return None
    return Operation("reshape", {}, [given["input"]])


@register_reader("transpose swapaxes permute movedim moveaxis t")
def _transpose(name: str, given: Arguments) -> Operation:
    data = given["input"]
    rank = data.tensor.ndim
    order = list(range(rank))
    if name == "permute":
        order = [normalise_axis(axis, rank) for axis in given["dims"]]
    elif name == "t":
        order.reverse()
    elif name.startswith("move"):
        source, target = (
            [value] if isinstance(value, int) else list(value)
            for value in (given["source"], given["destination"])
        )
        source, target = ([normalise_axis(a, rank) for a in axes] for axes in (source, target))
        rest = iter(axis for axis in range(rank) if axis not in source)
        order = [source[target.index(i)] if i in target else next(rest) for i in range(rank)]
    else:
        one = normalise_axis(given.get("dim0", given.get("axis0", 0)), rank)
        other = normalise_axis(given.get("dim1", given.get("axis1", 1)), rank)
        order[one], order[other] = other, one
    return permute(data, order, given["_axes"])


def permute(data: Operand, order: list[int], axes: str) -> Operation:
    names = split_axes(axes)
    moved = " ".join(names[axis] for axis in order) if len(names) == len(order) else ""
    return Operation("transpose", {"perm": order}, [data], axes=moved)


@register_reader("squeeze")
def _squeeze(name: str, given: Arguments) -> Operation | None:
    shape = shape_of(given["input"])
    wanted = given.get("dim")
    axes = list(range(len(shape))) if wanted is None else list_axes(wanted, len(shape))
    axes = [axis for axis in axes if shape[axis] == 1]
    left = remove_axes(given["_axes"], axes)
    return Operation("squeeze", {"axes": axes}, [given["input"]], axes=left)


@register_reader("unsqueeze")
def _unsqueeze(name: str, given: Arguments) -> Operation:
    axis = normalise_axis(given["dim"], given["input"].tensor.ndim + 1)
    return Operation("unsqueeze", {"axes": [axis]}, [given["input"]])


@register_reader("expand broadcast_to expand_as")
def _expand(name: str, given: Arguments) -> Operation:
    # The shape is filled in by `complete`.
    return Operation("expand", {}, [given["input"]], keeps_axes=True)


@register_reader("repeat tile")
def _tile(name: str, given: Arguments) -> Operation:
    repeats = given.get("repeats", given.get("dims"))
    repeats = [int(item) for item in (repeats if isinstance(repeats, tuple | list) else [repeats])]
    rank = given["input"].tensor.ndim
    repeats = [1] * (rank - len(repeats)) + repeats
    return Operation("tile", {"repeats": repeats}, [given["input"]])


@register_reader("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout")
def _dropout(name: str, given: Arguments) -> Operation:
    return Operation("dropout", {}, [given["input"]], keeps_axes=True)


@register_reader("to type type_as long int short bool char byte")
def _cast(name: str, given: Arguments) -> Operation:
    return Operation("cast", {}, [given["input"]], keeps_axes=True)


def complete(operation: Operation, call: Call, input_axes: str) -> Operation:
    """Fill in what the outputs say of a shape operation."""
    outputs = list(call.outputs.values())
    shape = [int(size) for size in outputs[0].shape]
    if call.name.startswith("property ") and call.name.removeprefix("property ") in _TURNED:
        data = call.arguments["input"]
        order = list(range(data.tensor.ndim))
        order = order[::-1] if call.name.endswith(" T") else [*order[:-2], *order[:-3:-1]]
        return permute(data, order, input_axes)
    if operation.kind == "reshape":
        return _complete_reshape(operation, shape, input_axes)
    if operation.kind == "expand":
        operation.hyper["full_shape"] = shape
    elif operation.kind == "split":
        axis = operation.hyper["axis"]
        if call.name == "unbind":
            operation.hyper |= {"sizes": [1] * len(outputs), "squeeze": True}
        else:
            operation.hyper["sizes"] = [int(each.shape[axis]) for each in outputs]
    elif operation.kind == "cast":
        operation.hyper["dtype"] = str(outputs[0].dtype).removeprefix("torch.")
    return operation


_TURNED = frozenset({"T", "mT", "H", "mH"})


def _complete_reshape(operation: Operation, shape: list[int], input_axes: str) -> Operation:
    data = operation.operands[0]
    before = list(shape_of(data))
    names = split_axes(input_axes)
    for start in range(1, len(before)):
        # One that joins the last axes from `start` on.
        if shape == [*before[:start], math.prod(before[start:])] and len(names) == len(before):
            joined = (
                " ".join(names[start:])
                if len(names) - start == 1
                else (
                    f"({' '.join(names[start:])})"
                    if not any("(" in n for n in names[start:])
                    else ""
                )
            )
            operation.axes = " ".join([*names[:start], joined]) if joined else ""
    if len(before) > 1 and shape == [before[0], math.prod(before[1:])]:
        operation.kind = "flatten"
    elif shape[:1] == before[:1]:
        operation.hyper["target"] = shape[1:]
    else:
        operation.hyper["full_shape"] = shape
    return operation
