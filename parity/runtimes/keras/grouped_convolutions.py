"""Grouped convolutions of Keras models: found where they are many Conv2D, and run in float64.

Such convolutions are joined by a Concatenate. The layer table has one row for all of them, which
names the Concatenate.
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
    """The convolutions whose outputs a Concatenate joins, and the layers that make their inputs."""

    convolutions: tuple[Any, ...]
    members: frozenset[Any]
    node: Any
    """The call of the first convolution."""
    channels: int
    """The channels of the tensor that all of them read, or read a slice of."""
    reads_all_channels: bool
    """Whether each reads all the channels, so that it is no grouped convolution."""
    padding: tuple[tuple[int, int], tuple[int, int]]
    """The padding of a ZeroPadding2D before the slices; one after them is the convolution's."""


def find_group(layer: Any) -> Group | None:
    """Return the grouped convolution that ends in `layer`; None if there is none."""
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
    inputs = [_trace_input(node) for node in nodes]
    sources = {id(source) for source, _ in inputs}
    slices, pads = (
        [[layer for layer in layers if isinstance(layer, kind)] for _, layers in inputs]
        for kind in (keras.layers.Lambda, keras.layers.ZeroPadding2D)
    )
    paddings = {tuple(pad.padding for pad in layers) for layers in pads}
    if len(sources) != 1 or len(paddings) != 1 or {len(layers) for layers in slices} - {0, 1}:
        return None
    slicers = [layers[0] for layers in slices if layers]
    if len(slicers) not in (0, len(nodes)) or len(pads[0]) > 1:
        return None
    members = {*convolutions, *slicers}
    if slicers:
        # Without slices a padding layer is an ordinary one, in a row of its own.
        members |= {pad for layers in pads for pad in layers}
    channels = int(inputs[0][0].shape[-1])
    pads_first = slicers and pads[0] and inputs[0][1][0] is not pads[0][0]
    padding = pads[0][0].padding if pads_first else ((0, 0), (0, 0))
    return Group(tuple(convolutions), frozenset(members), nodes[0], channels, not slicers, padding)


def _trace_input(node: Any) -> tuple[Any, list[Any]]:
    """Return a call's input before it is sliced and padded, and the layers that do that."""
    tensor, layers = node.input_tensors[0], []
    while isinstance(
        (before := tensor._keras_history).operation,
        (keras.layers.Lambda, keras.layers.ZeroPadding2D),
    ):
        layers.append(before.operation)
        tensor = before.operation._inbound_nodes[before.node_index].input_tensors[0]
    return tensor, layers


class GroupVariable:
    """One variable of all convolutions of a group, as one array (outputs on the last axis)."""

    def __init__(self, variables: list[Any]) -> None:
        self.variables = variables
        self.name = variables[0].name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the joined array."""
        first = tuple(self.variables[0].shape)
        return (*first[:-1], sum(int(variable.shape[-1]) for variable in self.variables))

    def assign(self, value: Array) -> None:
        """Give each convolution its part of the joined array."""
        for part, variable in zip(
            np.split(value, len(self.variables), axis=-1), self.variables, strict=True
        ):
            variable.assign(part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        joined: Array = np.concatenate([np.asarray(v) for v in self.variables], axis=-1)
        return joined if dtype is None else joined.astype(dtype)


def variables(layer: Any) -> dict[str, Any]:
    """Return a layer's variables by name; those of its convolutions, joined, if it ends a group."""
    group = find_group(layer)
    if group is None:
        return {variable.name: variable for variable in layer.variables}
    first = group.convolutions[0]
    return {
        variable.name: GroupVariable([conv.variables[index] for conv in group.convolutions])
        for index, variable in enumerate(first.variables)
    }


def disable_xla(model: keras.Model) -> None:
    """Make a float64 model's grouped convolutions call TensorFlow's kernel directly.

    Keras compiles each call of such a convolution with XLA anew, whose float64 loops then take two
    thirds of a ResNeXt-50's forward pass. Strides, padding and dilation are still the layer's, and
    the kernel sums the same products.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.Conv2D and layer.groups > 1:
            layer.convolution_op = partial(_convolve, layer)


def _convolve(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any:
    if layer.data_format != "channels_last":
        return keras.layers.Conv2D.convolution_op(layer, inputs, kernel)
    convolution = keras_device.import_backend().nn.convolution
    return convolution(
        inputs, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate
    )
