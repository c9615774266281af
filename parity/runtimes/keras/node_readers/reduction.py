"""Readers of reductions and running sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.runtimes.keras.events import Event
from parity.runtimes.keras.node_readers.reading import (
    Reading,
    first_data,
    read_integers,
    reads,
    sort_axes,
)


@reads("argmax")
def _read_argmax(event: Event) -> Reading | None:
    axis = event.arguments["axis"]
    if axis is None:
        return None
    hyper = {"axis": int(axis) % len(first_data(event).shape)}
    return Reading("argmax", {**hyper, "keepdims": bool(event.arguments["keepdims"])})


_REDUCTIONS = {"Mean": "reduce_mean", "Sum": "reduce_sum", "Max": "reduce_max", "Min": "reduce_min"}


@reads(*_REDUCTIONS)
def _read_reduction(event: Event) -> Reading | None:
    rank = len(event.operands[0].shape)
    axes = read_integers(event, 1)
    if axes is None:
        return None
    reduced = sort_axes(axes, rank)
    # None stand for all of them.
    reduced = [] if len(reduced) == rank else reduced
    hyper = {"axes": reduced, "keepdims": bool(event.arguments.get("keep_dims"))}
    return Reading(_REDUCTIONS[event.name], hyper, settings=frozenset({1}))


@reads("var")
def _read_variance(event: Event) -> Reading:
    given, rank = event.arguments, len(first_data(event).shape)
    axis = given["axis"]
    axes = [] if axis is None else sort_axes(np.atleast_1d(axis).tolist(), rank)
    hyper = {"axes": axes, "keepdims": bool(given["keepdims"]), "correction": 0}
    return Reading("variance", hyper)


@reads("ArgMax", "Cumsum")
def _read_indexed(event: Event) -> Reading | None:
    axis, rank = read_integers(event, 1), len(event.operands[0].shape)
    if axis is None or event.arguments.get("exclusive") or event.arguments.get("reverse"):
        return None
    hyper: dict[str, Any] = {"axis": axis[0] % max(rank, 1)}
    if event.name == "ArgMax":
        hyper["keepdims"] = False
    return Reading("argmax" if event.name == "ArgMax" else "cumsum", hyper,
                   settings=frozenset({1}))  # fmt: skip
