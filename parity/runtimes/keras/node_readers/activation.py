"""Readers of activations."""

from __future__ import annotations

import numpy as np

from parity.runtimes.keras.events import Event, Operand
from parity.runtimes.keras.node_readers.reading import (
    Reading,
    channels_last,
    first_data,
    read_layer,
    reads,
)


@reads("gelu")
def _read_gelu(event: Event) -> Reading:
    approximate = bool(event.arguments["approximate"])
    return Reading("gelu", {"approximate": approximate}, keeps_axes=True)


@reads("relu")
def _read_relu(event: Event) -> Reading:
    """Keras's ReLU with its slope, largest value and threshold."""
    given = event.arguments
    slope, threshold = float(given["negative_slope"]), float(given["threshold"])
    largest = given["max_value"]
    if slope == 0 and threshold == 0 and largest is None:
        return Reading("relu", keeps_axes=True)
    if slope == 0 and threshold == 0 and float(largest) == 6:
        return Reading("relu6", keeps_axes=True)
    if threshold == 0 and largest is None:
        return Reading("leaky_relu", {"slope": slope}, keeps_axes=True)
    hyper = {"negative_slope": slope, "threshold": threshold}
    if largest is not None:
        hyper["max_value"] = float(largest)
    return Reading("bounded_relu", hyper, keeps_axes=True)


@reads("leaky_relu", "LeakyRelu")
def _read_leaky_relu(event: Event) -> Reading:
    slope = event.arguments.get("negative_slope", event.arguments.get("alpha", 0.2))
    return Reading("leaky_relu", {"slope": float(slope)}, keeps_axes=True)


@reads("elu", "celu", "Elu")
def _read_elu(event: Event) -> Reading:
    alpha = float(event.arguments.get("alpha", 1.0))
    return Reading("celu" if event.name == "celu" else "elu", {"alpha": alpha}, keeps_axes=True)


@reads("glu", "softmax", "log_softmax", "Softmax", "LogSoftmax", "softmax_v2", "log_softmax_v2")
def _read_softmax(event: Event) -> Reading | None:
    name = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}.get(event.name, event.name)
    axis = event.arguments.get("axis", -1)
    axis = getattr(event.layer, "axis", -1) if event.name == "SoftmaxLayer" else axis
    if axis is None and name.endswith("_v2"):
        axis = -1
    if not isinstance(axis, int):
        return None
    rank = len(first_data(event).shape)
    return Reading(name.removesuffix("_v2"), {"axis": axis % rank}, keeps_axes=True)


@reads("PReLU")
def _read_prelu(event: Event) -> Reading:
    axes = channels_last(len(first_data(event).shape))
    return read_layer(event, "prelu", {}, axes)


@reads("clip", "hard_tanh")
def _read_clip(event: Event) -> Reading | None:
    given = event.arguments
    hyper = {}
    for name, argument in (("low", "x_min"), ("high", "x_max")):
        value = given.get(argument, {"low": -1.0, "high": 1.0}[name])
        value = value.value if isinstance(value, Operand) else value
        if value is None or np.size(value) != 1:
            return None
        hyper[name] = float(np.asarray(value).reshape(()))
    settings = frozenset(i for i, operand in enumerate(event.operands) if not operand.id)
    return Reading("clip", hyper, keeps_axes=True, settings=settings)
