"""Readers of reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parity.runtimes.torch.calls import Operand
from parity.runtimes.torch.operations.reading import (
    Arguments,
    Operation,
    channels_first,
    list_axes,
    normalise_axis,
    register_reader,
    split_axes,
)


@register_reader("mean sum amax amin norm var max min")
def _reduce(name: str, given: Arguments) -> Operation | None:
    data, rank = given["input"], given["input"].tensor.ndim
    if isinstance(given.get("dim"), Operand) or "other" in given:
        # The larger of two tensors.
        operands = [data, given.get("other", given.get("dim"))]
        return Operation(f"{name}imum", {}, operands, keeps_axes=True)
    # Of max and min over an axis, the second output is the places, which has no operator.
    axes, keep = list_axes(given.get("dim"), rank), bool(given.get("keepdim", False))
    if name == "mean":
        spatial = {"N C H W": [2, 3], "": [2, 3], "N H W C": [1, 2]}.get(given["_axes"])
        if rank == 4 and axes == spatial:
            image = given["_axes"] or channels_first(4)
            size = {"size": [1, 1]}
            left = image if keep else "N C"
            return Operation("global_avg_pool", size, [data], {}, left, image)
    if name == "norm" and given.get("p", 2) not in (None, 2, 2.0, "fro"):
        return None
    hyper: dict[str, Any] = {"axes": axes, "keepdims": keep}
    kind = {"var": "variance", "norm": "reduce_l2"}.get(name, f"reduce_{name.removeprefix('a')}")
    if name == "var":
        if "correction" in given:
            hyper["correction"] = int(given["correction"])
        else:
            hyper["correction"] = int(bool(given.get("unbiased", True)))
    left = given["_axes"] if keep else remove_axes(given["_axes"], axes or range(rank))
    return Operation(kind, hyper, [data], axes=left)


def remove_axes(axes: str, removed: Sequence[int]) -> str:
    return " ".join(name for index, name in enumerate(split_axes(axes)) if index not in removed)


@register_reader("argmax")
def _argmax(name: str, given: Arguments) -> Operation | None:
    if given.get("dim") is None:
        return None
    axis = normalise_axis(given["dim"], given["input"].tensor.ndim)
    return Operation("argmax", {"axis": axis, "keepdims": bool(given.get("keepdim", False))},
                     [given["input"]])  # fmt: skip
