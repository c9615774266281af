"""Readers of activations."""

from __future__ import annotations

import numpy as np

from parity.runtimes.keras.events import Event, Operand
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    channels_last,
    first_data,
    read_layer,
    register_reader,
)


@register_reader("gelu")
def _read_gelu(event: Event) -> NodeReading:
    approximate = bool(event.arguments["approximate"])
    return NodeReading("gelu", {"approximate": approximate}, keeps_axes=True)


@register_reader("relu")
def _read_relu(event: Event) -> NodeReading:
    """Keras's ReLU with its slope, largest value and threshold."""
    given = event.arguments
    slope, threshold = float(given["negative_slope"]), float(given["threshold"])
    largest = given["max_value"]
    if slope == 0 and threshold == 0 and largest is None:
        return NodeReading("relu", keeps_axes=True)
    if slope == 0 and threshold == 0 and float(largest) == 6:
        return NodeReading("relu6", keeps_axes=True)
    if threshold == 0 and largest is None:
        return NodeReading("leaky_relu", {"slope": slope}, keeps_axes=True)
    hyperparameters = {"negative_slope": slope, "threshold": threshold}
    if largest is not None:
        hyperparameters["max_value"] = float(largest)
    return NodeReading("bounded_relu", hyperparameters, keeps_axes=True)


@register_reader("leaky_relu", "LeakyRelu")
def _read_leaky_relu(event: Event) -> NodeReading:
    slope = event.arguments.get("negative_slope", event.arguments.get("alpha", 0.2))
    return NodeReading("leaky_relu", {"slope": float(slope)}, keeps_axes=True)


@register_reader("elu", "celu", "Elu")
def _read_elu(event: Event) -> NodeReading:
    alpha = float(event.arguments.get("alpha", 1.0))
    return NodeReading("celu" if event.name == "celu" else "elu", {"alpha": alpha}, keeps_axes=True)


@register_reader(
    "glu", "softmax", "log_softmax", "Softmax", "LogSoftmax", "softmax_v2", "log_softmax_v2"
)
def _read_softmax(event: Event) -> NodeReading | None:
    name = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}.get(event.name, event.name)
    axis = event.arguments.get("axis", -1)
    axis = getattr(event.layer, "axis", -1) if event.name == "SoftmaxLayer" else axis
    if axis is None and name.endswith("_v2"):
        axis = -1
    if not isinstance(axis, int):
        return None
    rank = len(first_data(event).shape)
    return NodeReading(name.removesuffix("_v2"), {"axis": axis % rank}, keeps_axes=True)


@register_reader("PReLU")
def _read_prelu(event: Event) -> NodeReading:
    axes = channels_last(len(first_data(event).shape))
    return read_layer(event, "prelu", {}, axes)


@register_reader("clip", "hard_tanh")
def _read_clip(event: Event) -> NodeReading | None:
    given = event.arguments
    hyperparameters = {}
    for name, argument in (("low", "x_min"), ("high", "x_max")):
        value = given.get(argument, {"low": -1.0, "high": 1.0}[name])
        value = value.value if isinstance(value, Operand) else value
        if value is None or np.size(value) != 1:
            return None
        hyperparameters[name] = float(np.asarray(value).reshape(()))
    setting_inputs = frozenset(i for i, operand in enumerate(event.operands) if not operand.id)
    return NodeReading("clip", hyperparameters, keeps_axes=True, setting_inputs=setting_inputs)
