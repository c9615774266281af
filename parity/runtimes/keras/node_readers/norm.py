"""Readers of normalisations."""

from __future__ import annotations

import math

import numpy as np

from parity.runtimes.keras.events import Event, Operand
from parity.runtimes.keras.node_readers.reading import (
    NodeReading,
    channels_first,
    channels_last,
    first_data,
    read_layer,
    register_reader,
    sort_axes,
)


@register_reader("BatchNormalization")
def _read_batch_norm(event: Event) -> NodeReading:
    rank, axis = len(first_data(event).shape), event.layer.axis
    axis = axis[0] if isinstance(axis, list | tuple) else axis
    axes = {rank - 1: channels_last(rank), 1: channels_first(rank)}.get(axis % rank, "")
    hyperparameters = {"epsilon": float(event.layer.epsilon)}
    return read_layer(event, "batch_norm", hyperparameters, axes)


@register_reader("batch_normalization")
def _read_batch_norm_function(event: Event) -> NodeReading | None:
    """The function of Keras, or of TensorFlow, whose weights have the parameters' names."""
    given = event.arguments
    parts = {"gamma": given.get("scale"), "beta": given.get("offset"), "mean": given.get("mean"),
             "variance": given.get("variance")}  # fmt: skip
    epsilon = given.get("epsilon", given.get("variance_epsilon"))
    if isinstance(epsilon, Operand):
        epsilon = epsilon.value
    roles = {
        part.weight.names[0]: role
        for role, part in parts.items()
        if isinstance(part, Operand) and part.weight is not None
    }
    if {"mean", "variance"} - set(roles.values()) or epsilon is None:
        return None
    rank = len(first_data(event).shape)
    axis = given.get("axis", -1)
    axes = {rank - 1: channels_last(rank), 1: channels_first(rank)}.get(axis % rank, "")
    hyperparameters = {"epsilon": float(epsilon)}
    return NodeReading(
        "batch_norm", hyperparameters, roles_by_name=roles, axes=axes, input_axes=axes
    )


@register_reader("LayerNormalization", "RMSNormalization")
def _read_layer_norm(event: Event) -> NodeReading:
    rank, axis = len(first_data(event).shape), event.layer.axis
    normalised = sort_axes(list(axis) if isinstance(axis, list | tuple) else [axis], rank)
    hyperparameters = {"epsilon": float(event.layer.epsilon), "axes": normalised}
    kind = "layer_norm" if event.name == "LayerNormalization" else "rms_norm"
    axes = channels_last(rank) if normalised == [rank - 1] else ""
    return read_layer(event, kind, hyperparameters, axes, {"scale": "gamma"})


@register_reader("GroupNormalization")
def _read_group_norm(event: Event) -> NodeReading:
    layer, rank = event.layer, len(first_data(event).shape)
    axis = layer.axis % rank
    channels = first_data(event).shape[axis]
    groups = channels if layer.groups == -1 else layer.groups
    hyperparameters = {"epsilon": float(layer.epsilon), "groups": int(groups)}
    axes = {rank - 1: channels_last(rank), 1: channels_first(rank)}.get(axis, "")
    return read_layer(event, "group_norm", hyperparameters, axes)


@register_reader("UnitNormalization", "l2_normalize")
def _read_l2(event: Event) -> NodeReading:
    """Keras divides by the norm; TensorFlow by the root of the larger of the square and epsilon."""
    rank = len(first_data(event).shape)
    given = event.arguments
    axis = getattr(event.layer, "axis", -1) if event.name == "UnitNormalization" else given["axis"]
    listed = list(range(rank)) if axis is None else np.atleast_1d(axis).tolist()
    epsilon = 1e-12 if event.name == "UnitNormalization" else given.get("epsilon", 1e-12)
    hyperparameters = {"axes": sort_axes(listed, rank), "epsilon": math.sqrt(float(epsilon))}
    return NodeReading("l2_normalize", hyperparameters, keeps_axes=True)
