"""Grouped convolutions of Keras models: written out as many Conv2D, and run in float64.

A convolution that is written out is put together by a Concatenate. The layer table has one row for
it, and names the Concatenate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.runtimes.keras import device as keras_device

Array = NDArray[Any]


@dataclass(frozen=True)
class Group:
    """The convolutions whose outputs a Concatenate puts together, and all that they are fed by."""

    convolutions: tuple[Any, ...]
    members: frozenset[Any]
    node: Any
    """The first convolution's call."""
    channels: int
    """Of the tensor that all of them read, or read a slice of."""
    whole: bool
    """Whether each reads all of it, which is no grouped convolution."""
    padding: tuple[tuple[int, int], tuple[int, int]]
    """What a ZeroPadding2D adds before the slices; one behind them is the convolution's own."""


def written_out(layer: Any) -> Group | None:
    """The grouped convolution that ends in `layer`, if it is one."""
    if not isinstance(layer, keras.layers.Concatenate) or len(layer._inbound_nodes) != 1:
        return None
    histories = [tensor._keras_history for tensor in layer._inbound_nodes[0].input_tensors]
    convolutions = [history.operation for history in histories]
    if len(convolutions) < 2 or not all(type(c) is keras.layers.Conv2D for c in convolutions):
        return None
    settings = {
        (c.kernel_size, c.strides, c.padding, c.dilation_rate, c.filters, c.use_bias)
        for c in convolutions
    }
    if len(settings) != 1:
        return None
    nodes = [c._inbound_nodes[h.node_index] for c, h in zip(convolutions, histories, strict=True)]
    fed = [_feeding(node) for node in nodes]
    sources = {id(source) for source, _ in fed}
    slices, pads = (
        [[layer for layer in layers if isinstance(layer, kind)] for _, layers in fed]
        for kind in (keras.layers.Lambda, keras.layers.ZeroPadding2D)
    )
    paddings = {tuple(pad.padding for pad in found) for found in pads}
    if len(sources) != 1 or len(paddings) != 1 or {len(found) for found in slices} - {0, 1}:
        return None
    sliced = [found[0] for found in slices if found]
    if len(sliced) not in (0, len(nodes)) or len(pads[0]) > 1:
        return None
    members = {*convolutions, *sliced}
    if sliced:
        # Without slices a padding layer is an ordinary one, in a row of its own.
        members |= {pad for found in pads for pad in found}
    channels = int(fed[0][0].shape[-1])
    early = sliced and pads[0] and fed[0][1][0] is not pads[0][0]
    padding = pads[0][0].padding if early else ((0, 0), (0, 0))
    return Group(tuple(convolutions), frozenset(members), nodes[0], channels, not sliced, padding)


def _feeding(node: Any) -> tuple[Any, list[Any]]:
    """The tensor that a group's convolution is made of, and the layers that slice and pad it."""
    tensor, layers = node.input_tensors[0], []
    while isinstance(
        (before := tensor._keras_history).operation,
        (keras.layers.Lambda, keras.layers.ZeroPadding2D),
    ):
        layers.append(before.operation)
        tensor = before.operation._inbound_nodes[before.node_index].input_tensors[0]
    return tensor, layers


class Joined:
    """The variables of one role in all convolutions of a group, as one array (outputs last)."""

    def __init__(self, variables: list[Any]) -> None:
        self.variables = variables
        self.name = variables[0].name

    @property
    def shape(self) -> tuple[int, ...]:
        first = tuple(self.variables[0].shape)
        return (*first[:-1], sum(int(variable.shape[-1]) for variable in self.variables))

    def assign(self, value: Array) -> None:
        for part, variable in zip(
            np.split(value, len(self.variables), axis=-1), self.variables, strict=True
        ):
            variable.assign(part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        made: Array = np.concatenate([np.asarray(v) for v in self.variables], axis=-1)
        return made if dtype is None else made.astype(dtype)


def variables(layer: Any) -> dict[str, Any]:
    """The layer's variables by name; those of its convolutions, joined, if it ends a group."""
    group = written_out(layer)
    if group is None:
        return {variable.name: variable for variable in layer.variables}
    first = group.convolutions[0]
    return {
        variable.name: Joined([conv.variables[index] for conv in group.convolutions])
        for index, variable in enumerate(first.variables)
    }


def without_xla(model: keras.Model) -> None:
    """Let a float64 model's grouped convolutions call TensorFlow's kernel directly.

    Keras compiles each call of such a convolution with XLA anew, whose float64 loops then take two
    thirds of a ResNeXt-50's forward. The layers stay what they are: strides, padding and dilation
    are the layer's own, and the kernel sums the same products.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.Conv2D and layer.groups > 1:
            layer.convolution_op = partial(_convolve, layer)


def _convolve(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any:
    if layer.data_format != "channels_last":
        return keras.layers.Conv2D.convolution_op(layer, inputs, kernel)
    convolution = keras_device.backend().nn.convolution
    return convolution(
        inputs, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate
    )
