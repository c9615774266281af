"""One layer of the reference, to be run alone in float64 with some of its parts changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.network import kinds

Array = NDArray[np.float64]
Step = Callable[[Array], Array]


@dataclass(frozen=True)
class Layer:
    """A layer's kind, inputs (NCHW or (N, C)), settings and weights (canonical layouts).

    `before` is applied to the first input, `after` to the output; settings are in the words of
    `parity.network.kinds`.
    """

    kind: str
    inputs: tuple[Array, ...]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()

    @property
    def data(self) -> Array:
        """The first input, as the layer's operation is given it."""
        tensor = self.inputs[0]
        for step in self.before:
            tensor = step(tensor)
        return tensor

    def set(self, **settings: Any) -> Self:
        """The same layer with other settings."""
        return replace(self, hyper={**self.hyper, **settings})

    def weigh(self, **weights: Array) -> Self:
        """The same layer with other weights."""
        return replace(self, weights={**self.weights, **weights})

    def given(self, step: Step) -> Self:
        """The same layer, its first input changed."""
        return replace(self, before=(*self.before, step))

    def then(self, step: Step) -> Self:
        """The same layer, its output changed."""
        return replace(self, after=(*self.after, step))


def evaluate(layer: Layer) -> Array:
    """The layer's output in float64; raises `ValueError`, `KeyError` or `IndexError` where its
    parts do not fit together.

    It takes milliseconds, and no framework's rounding, padding or layout has a say in it.
    """
    inputs = (layer.data, *layer.inputs[1:]) if layer.inputs else ()
    output = kinds.evaluate(layer.kind, inputs, layer.weights, layer.hyper)
    for step in layer.after:
        output = step(output)
    return output


# Differences, as functions from the reference's layer to the subject's ---------------------------

Change = Callable[[Layer], Layer]


def setting(**settings: Any) -> Change:
    """Other settings."""
    return lambda layer: layer.set(**settings)


def weighing(**weights: Array) -> Change:
    """Other weights, whatever they are in the layer."""
    return lambda layer: layer.weigh(**weights)


def reweighing(roles: Sequence[str], step: Step) -> Change:
    """The weights of these roles, changed by `step`; raises `ValueError` for another shape."""

    def change(layer: Layer) -> Layer:
        made = {role: step(layer.weights[role]) for role in roles}
        for role, value in made.items():
            if value.shape != layer.weights[role].shape:
                raise ValueError(f"{role} of {value.shape} for {layer.weights[role].shape}")
        return layer.weigh(**made)

    return change


def given(step: Step) -> Change:
    """The first input, changed by `step`."""
    return lambda layer: layer.given(step)


def then(step: Step) -> Change:
    """The output, changed by `step`."""
    return lambda layer: layer.then(step)


def instead(tensor: Array) -> Change:
    """Another tensor in the output's place, whatever the layer computes."""
    return then(lambda output: tensor)


def becoming(kind: str, **settings: Any) -> Change:
    """Another kind of layer on the same inputs."""
    return lambda layer: replace(layer, kind=kind).set(**settings)


def taken_for(order: Sequence[int], shape: Sequence[int] | None = None) -> Step:
    """The numbers of a kernel, in memory, taken for those of a layout with its axes in `order`.

    `shape` are the sizes of the axes that `order` counts, where the kernel's own join some.
    """
    back = tuple(int(axis) for axis in np.argsort(order))

    def change(kernel: Array) -> Array:
        sizes = kernel.shape if shape is None else shape
        return kernel.reshape([sizes[i] for i in order]).transpose(back).reshape(kernel.shape)

    return change


def written_as(order: Sequence[int], shape: Sequence[int] | None = None) -> Step:
    """The numbers of a kernel in the layout `order` taken for those of its own, as `taken_for`."""

    def change(kernel: Array) -> Array:
        sizes = kernel.shape if shape is None else shape
        return kernel.reshape(sizes).transpose(order).reshape(kernel.shape)

    return change
