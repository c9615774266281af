"""One layer of the reference, evaluated alone in float64, and changes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.network import kinds
from parity.network.arrays import along_axis
from parity.network.kind import COMPLEX

Array = NDArray[np.float64]
Transform = Callable[[Array], Array]
"""A function of one tensor: an input, an output or a weight."""


class EvaluationMemo:
    """The last outputs that operators gave, without bias, by the arrays that they read.

    Most changes of a layer leave its inputs and its kernel as they are, and several models have
    the same layer.
    """

    def __init__(self, entries: int = 8) -> None:
        self._entries = entries
        self._found: dict[tuple[Any, ...], tuple[tuple[Array, ...], Array]] = {}

    def evaluate(
        self,
        kind: str,
        inputs: Sequence[Array],
        weights: Mapping[str, Array],
        hyper: Mapping[str, Any],
    ) -> Array:
        """Return what `parity.network.kinds.evaluate` does."""
        if kind not in _LINEAR:
            return kinds.evaluate(kind, inputs, weights, hyper)
        bias = weights.get("bias")
        others = {role: value for role, value in weights.items() if role != "bias"}
        arrays = (*inputs, *others.values())
        key = (kind, *others, *map(id, arrays), repr(sorted(hyper.items())))
        if key not in self._found:
            output = kinds.evaluate(kind, inputs, others, hyper)
            # The arrays are kept too, so that their identities stay theirs.
            self._found[key] = arrays, output
            if len(self._found) > self._entries:
                self._found.pop(next(iter(self._found)))
        output = self._found[key][1]
        return output.copy() if bias is None else output + along_axis(bias, output, 1)


_LINEAR = frozenset({"conv", "depthwise_conv"})
"""Kinds that add a bias to each channel, axis 1, of what takes nearly all of their time."""


@dataclass(frozen=True)
class Layer:
    """A layer: kind, inputs (N, C, H, W) or (N, C), hyperparameters and weights (canonical
    layouts).

    `input_transforms` are applied to the first input, `output_transforms` to the output. Kinds and
    hyperparameters have the names of `parity.network.kinds`.
    """

    kind: str
    inputs: tuple[Array, ...]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    input_transforms: tuple[Transform, ...] = ()
    output_transforms: tuple[Transform, ...] = ()
    memo: EvaluationMemo | None = field(default=None, compare=False, repr=False)
    constants: frozenset[int] = frozenset()
    """The places of the inputs that depend on no input of the model: tables, of the output's shape,
    and numbers, of the shape (), complex ones of (2,)."""

    @property
    def data(self) -> Array:
        """The first input after `input_transforms`."""
        tensor = self.inputs[0]
        for transform in self.input_transforms:
            tensor = transform(tensor)
        return tensor

    def find_number(self, place: int) -> complex | float | None:
        """Return the number of the code at the place of an input; None where there is none."""
        if place not in self.constants:
            return None
        value, flags = self.inputs[place], self.hyper.get(COMPLEX) or ()
        if place < len(flags) and flags[place] and value.shape == (2,):
            return complex(*value)
        return float(value.reshape(-1)[0]) if value.size == 1 else None

    def with_hyper(self, **hyper: Any) -> Self:
        """Return the layer with other hyperparameters."""
        return replace(self, hyper={**self.hyper, **hyper})

    def with_weights(self, **weights: Array) -> Self:
        """Return the layer with other weights, by role."""
        return replace(self, weights={**self.weights, **weights})

    def with_input_transform(self, transform: Transform) -> Self:
        """Return the layer with one more transform of its first input."""
        return replace(self, input_transforms=(*self.input_transforms, transform))

    def with_output_transform(self, transform: Transform) -> Self:
        """Return the layer with one more transform of its output."""
        return replace(self, output_transforms=(*self.output_transforms, transform))


def evaluate(layer: Layer) -> Array:
    """Return the layer's output in float64, computed with NumPy alone.

    Raises `ValueError`, `KeyError` or `IndexError` where its parts do not fit together.
    """
    inputs = (layer.data, *layer.inputs[1:]) if layer.inputs else ()
    evaluate_kind = kinds.evaluate if layer.memo is None else layer.memo.evaluate
    output = evaluate_kind(layer.kind, inputs, layer.weights, layer.hyper)
    for transform in layer.output_transforms:
        output = transform(output)
    return output


# Changes, as functions from the reference's layer to the subject's --------------------------------

LayerChange = Callable[[Layer], Layer]


def with_input(layer: Layer, *, place: int, value: Array) -> Layer:
    """Return the layer with another input at a place; raises `ValueError` for another shape."""
    if place >= len(layer.inputs) or layer.inputs[place].shape != value.shape:
        raise ValueError(f"input {place} of {value.shape}")
    return replace(layer, inputs=(*layer.inputs[:place], value, *layer.inputs[place + 1 :]))


def change_hyper(**hyper: Any) -> LayerChange:
    """Return the change to other hyperparameters."""
    return lambda layer: layer.with_hyper(**hyper)


def replace_weights(**weights: Array) -> LayerChange:
    """Return the change to other weights, by role, whatever the layer's own are."""
    return lambda layer: layer.with_weights(**weights)


def transform_weights(roles: Sequence[str], transform: Transform) -> LayerChange:
    """Return the change that applies `transform` to the weights of these roles.

    The change raises `ValueError` if the transform alters a shape.
    """

    def change(layer: Layer) -> Layer:
        transformed = {role: transform(layer.weights[role]) for role in roles}
        for role, value in transformed.items():
            if value.shape != layer.weights[role].shape:
                raise ValueError(f"{role} of {value.shape} for {layer.weights[role].shape}")
        return layer.with_weights(**transformed)

    return change


def transform_input(transform: Transform) -> LayerChange:
    """Return the change that applies `transform` to the first input."""
    return lambda layer: layer.with_input_transform(transform)


def transform_output(transform: Transform) -> LayerChange:
    """Return the change that applies `transform` to the output."""
    return lambda layer: layer.with_output_transform(transform)


def replace_output(tensor: Array) -> LayerChange:
    """Return the change that replaces the output by `tensor`, whatever the layer computes."""
    return transform_output(lambda output: tensor)


def change_kind(kind: str, **hyper: Any) -> LayerChange:
    """Return the change to another kind of layer on the same inputs."""
    return lambda layer: replace(layer, kind=kind).with_hyper(**hyper)


def read_as_layout(order: Sequence[int], shape: Sequence[int] | None = None) -> Transform:
    """Return the transform that reads a kernel's memory as a layout with its axes in `order`.

    `shape` has the sizes of the axes that `order` counts, where one axis of the kernel joins
    several.
    """
    inverse = tuple(int(axis) for axis in np.argsort(order))

    def transform(kernel: Array) -> Array:
        sizes = kernel.shape if shape is None else shape
        return kernel.reshape([sizes[i] for i in order]).transpose(inverse).reshape(kernel.shape)

    return transform


def write_as_layout(order: Sequence[int], shape: Sequence[int] | None = None) -> Transform:
    """Return the inverse of `read_as_layout`: memory in the layout `order` is read
    as the kernel's.
    """

    def transform(kernel: Array) -> Array:
        sizes = kernel.shape if shape is None else shape
        return kernel.reshape(sizes).transpose(order).reshape(kernel.shape)

    return transform
