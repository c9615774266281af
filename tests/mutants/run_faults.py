"""Faults that lie in how a model is run, exported or captured, and not in what it is."""

from __future__ import annotations

import numpy as np

from parity.table import torch_point
from tests.mutants.plan import CODE, EVERYWHERE, Mutation, code, fault

CONV = ("conv", "depthwise_conv")
EVERY = ("conv", "max_pool", "add", "relu", "avg_pool", "dense", "batch_norm")
GRAPH = ("onnx-torch",)


def _kept_late(later, place):
    change = {"change": "late", "row": place.row.name, "later": later}
    return Mutation((place.row.name,), changes=(change,), depth="layer")


def _in_place(place):
    """The activation behind a layer overwrites what a hook has kept of it."""
    order = list(place.rows.values())
    behind = order[order.index(place.row) + 1 :][:1]
    if not behind or "relu" not in behind[0].kind or behind[0].shape != place.row.shape:
        return None
    return _kept_late(behind[0].name, place)


def _overwritten(place):
    """The last call of one module overwrites what a hook has kept of its first."""
    own = torch_point(place.row.torch)
    calls = [row for row in place.rows.values() if "@" not in row.torch
             and torch_point(row.torch).module == own.module]  # fmt: skip
    last = calls[-1]
    if place.row.name == last.name or last.shape != place.row.shape:
        return None
    return _kept_late(last.name, place)


def _tf32(place):
    """Both operands with 11 significant bits, as a card that nobody told otherwise computes."""
    name = place.weight("kernel")
    bits = place.values[name].view(np.uint32)
    even = (bits >> np.uint32(13)) & np.uint32(1)
    kernel = ((bits + np.uint32(0xFFF) + even) & np.uint32(0xFFFFE000)).view(np.float32)
    return Mutation((place.row.name,), {name: kernel}, code("tf32-before")(place).changes)


def _whole(change, *, count=None, **more):
    """A fault of the whole graph; a cause of it is told at the first cut."""

    def plan(place):
        first = place.first
        if place.row.name != first:
            return None
        call = {"layer": place.layer, "change": change, "value": count}
        return Mutation((first,), changes=(call,), **more)

    return plan


RUN_FAULTS = (
    fault("33 TF32 (emulated)", (*CONV, "dense"), "tf32", _tf32, CODE),
    fault("35 optimiser adds a sigmoid", ("conv", "batch_norm"), "ort-optimiser",
          code("sigmoid-after", optimiser=True), GRAPH),
    fault("35 optimiser adds a sine", ("conv", "batch_norm", "add"), "ort-optimiser",
          code("sine-after", optimiser=True), GRAPH),
    fault("36 exporter writes another layer", ("conv", "batch_norm", "add", "relu"),
          "exported-graph", code("sine-after"), GRAPH),
    fault("37 batch frozen at 2", EVERY, "batch-frozen", _whole("frozen", count=2, fails=True),
          GRAPH),
    fault("37 batch frozen at 3", EVERY, "batch-frozen", _whole("frozen", count=3, fails=True),
          GRAPH),
    fault("43 provider fell back", EVERY, "provider-fallback",
          _whole("no-provider", fails=True, device="gpu"), GRAPH),
    fault("44 changed in place", ("conv", "depthwise_conv", "batch_norm", "add", "dense"),
          "changed-in-place", _in_place, EVERYWHERE),
    fault("45 called twice", "relu", "called-twice", _overwritten, ("torch",)),
)  # fmt: skip
