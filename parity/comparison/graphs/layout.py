"""Operations of channels-last models with the axes that their operators in float64 have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from parity.network import kinds
from parity.network.axes import split_words
from parity.network.graph import Graph, Node
from parity.network.rearrangement import Rearrangement

_SPATIAL = frozenset("DHW")

_OF_OUTPUT = frozenset({"stack", "unsqueeze"})
"""Kinds whose axes are counted in the output."""

_PARALLEL = ("starts", "ends", "steps", "shifts")
"""Hyperparameters that give one value for each of `axes`."""


def channels_first(order: str) -> tuple[Rearrangement, ...]:
    """Return the rearrangement from an axis order to channels first, or nothing.

    It is empty where the order is channels first already, or is not known.
    """
    names = split_words(order)
    if len(names) < 3 or names[0] != "N" or names[-1] != "C":
        return ()
    if len(names) == 3 and names[1] not in _SPATIAL:
        # Tokens: every framework has their channels last.
        return ()
    return (Rearrangement(order=(0, len(names) - 1, *range(1, len(names) - 1))),)


def is_signal(graph: Graph, node: Node, axes: Mapping[str, str]) -> bool:
    """Return whether an operator with channels first reads a signal (N, T, C), channels last."""
    if not kinds.properties(node.kind).channels_second or not node.inputs:
        return False
    if graph.framework != "keras" and kinds.properties(node.kind).windowed:
        # What the names call tokens may be its channels: a convolution over (N, T, C) mixes them.
        return False
    return axes.get(node.inputs[0]) == "N T C"


def move_channels_first(graph: Graph, node: Node, axes: Mapping[str, str]) -> Node:
    """Return an operation whose axes are counted in channels-first tensors, from 0.

    `axes` are the axis orders of the graph's tensors by id. Hyperparameters that name no axes are
    as they were.
    """
    if not node.inputs or not node.outputs:
        return node
    ends = {
        name: (channels_first(axes.get(tensor, "")), len(graph.tensors[tensor].shape))
        for name, tensor in (("input", node.inputs[0]), ("output", node.outputs[0]))
    }
    rearrangements, rank = ends["output" if node.kind in _OF_OUTPUT else "input"]
    moved = rearrangements[0].order if rearrangements else tuple(range(rank))
    hyper = dict(node.hyper)

    def place(axis: Any) -> int:
        return moved.index(int(axis) % rank) if rank else int(axis)

    if isinstance(hyper.get("axis"), int):
        hyper["axis"] = place(hyper["axis"])
    if isinstance(hyper.get("axes"), list | tuple):
        _move_lists(hyper, [place(axis) for axis in hyper["axes"]])
    if isinstance(hyper.get("squeeze"), list | tuple):
        hyper["squeeze"] = sorted(place(axis) for axis in hyper["squeeze"])
    if isinstance(hyper.get("repeats"), list | tuple) and len(hyper["repeats"]) == rank:
        hyper["repeats"] = [hyper["repeats"][axis] for axis in moved]
    if isinstance(hyper.get("perm"), list | tuple) and len(hyper["perm"]) == rank:
        out = ends["output"][0]
        order = out[0].order if out else tuple(range(rank))
        hyper["perm"] = [place(hyper["perm"][axis]) for axis in order]
    return replace(node, hyper=hyper)


def list_own_axes(graph: Graph, node: Node, axes: Mapping[str, str]) -> tuple[int, ...]:
    """Return which of an operation's own axes each axis of `move_channels_first` is.

    Empty where they are the same.
    """
    if not node.inputs or not node.outputs:
        return ()
    tensor = (node.outputs if node.kind in _OF_OUTPUT else node.inputs)[0]
    found = channels_first(axes.get(tensor, ""))
    return tuple(found[0].order) if found else ()


def restore_axes_of(name: str, value: Any, own_axes: Sequence[int]) -> Any:
    """Return a setting that names axes with those that an operation has, as `list_own_axes`."""
    if not own_axes:
        return value
    if name == "axis" and isinstance(value, int):
        return own_axes[value % len(own_axes)]
    if name == "axes" and isinstance(value, list | tuple):
        return sorted(own_axes[each % len(own_axes)] for each in value)
    return value


def _move_lists(hyper: dict[str, Any], places: Sequence[int]) -> None:
    """Set the axes in rising order, and what is listed for each of them in the same order."""
    order = sorted(range(len(places)), key=places.__getitem__)
    hyper["axes"] = [places[at] for at in order]
    for name in _PARALLEL:
        values = hyper.get(name)
        if isinstance(values, list | tuple) and len(values) == len(places):
            hyper[name] = [values[at] for at in order]
