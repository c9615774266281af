"""Readers of reductions and running sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    first_data,
    read_integers,
    register_reader,
    sort_axes,
)


@register_reader("argmax")
def _read_argmax(event: Event) -> NodeReading | None:
    axis = event.arguments["axis"]
    if axis is None:
        return None
    hyperparameters = {"axis": int(axis) % len(first_data(event).shape)}
    return NodeReading("argmax", {**hyperparameters, "keepdims": bool(event.arguments["keepdims"])})


_REDUCTIONS = {"Mean": "reduce_mean", "Sum": "reduce_sum", "Max": "reduce_max", "Min": "reduce_min"}


@register_reader(*_REDUCTIONS)
def _read_reduction(event: Event) -> NodeReading | None:
    rank = len(event.operands[0].shape)
    axes = read_integers(event, 1)
    if axes is None:
        return None
    reduced = sort_axes(axes, rank)
    # None stand for all of them.
    reduced = [] if len(reduced) == rank else reduced
    hyperparameters = {"axes": reduced, "keepdims": bool(event.arguments.get("keep_dims"))}
    return NodeReading(_REDUCTIONS[event.name], hyperparameters, setting_inputs=frozenset({1}))


@register_reader("var")
def _read_variance(event: Event) -> NodeReading:
    given, rank = event.arguments, len(first_data(event).shape)
    axis = given["axis"]
    axes = [] if axis is None else sort_axes(np.atleast_1d(axis).tolist(), rank)
    hyperparameters = {"axes": axes, "keepdims": bool(given["keepdims"]), "correction": 0}
    return NodeReading("variance", hyperparameters)


@register_reader("ArgMax", "Cumsum")
def _read_indexed(event: Event) -> NodeReading | None:
    axis, rank = read_integers(event, 1), len(event.operands[0].shape)
    if axis is None or event.arguments.get("exclusive") or event.arguments.get("reverse"):
        return None
    hyperparameters: dict[str, Any] = {"axis": axis[0] % max(rank, 1)}
    if event.name == "ArgMax":
        hyperparameters["keepdims"] = False
    return NodeReading(
        "argmax" if event.name == "ArgMax" else "cumsum",
        hyperparameters,
        setting_inputs=frozenset({1}),
    )
