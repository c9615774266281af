"""The variant with bound groups, made smaller, with some of the report's remedies applied.

`PARITY_TEST_REMEDIES` lists the remedies: `same-padding`, `batch-norm-epsilon`, `softmax` and
`bias`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
from keras import layers

from parity.network import architectures
from parity.network.models.written_groups.keras import build as variant

VARIABLE = "PARITY_TEST_REMEDIES"
NAME = "resnext14_8x16d@keras-bound-groups"

SMALL = replace(
    architectures.get("resnext50_32x4d@keras-bound-groups", classes=10, image_size=(64, 64)),
    name=NAME,
    depths=(1, 1, 1, 1),
    groups=8,
    width_per_group=16,
)
"""One block a stage, and eight groups: everything that differs is there once, or three times."""


def build() -> keras.Model:
    """Return the model with the remedies of the environment variable."""
    remedies = set(filter(None, os.environ.get(VARIABLE, "").split(",")))
    unknown = remedies - {"same-padding", "batch-norm-epsilon", "softmax", "bias"}
    if unknown:
        raise ValueError(f"no such remedy: {', '.join(sorted(unknown))}")
    padded: dict[str, keras.KerasTensor] = {}

    def clone(layer: layers.Layer) -> layers.Layer:
        if isinstance(layer, layers.Lambda):
            return layers.Lambda(layer.function, name=layer.name)
        return type(layer).from_config({**layer.get_config(), **_changes(layer, remedies)})

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        """`ZeroPadding2D(1)` before the slices, once for all groups of a convolution."""
        name, _, slice_ = layer.name.partition("_slice")
        if slice_ and _strides(name) and "same-padding" in remedies:
            if name not in padded:
                padded[name] = layers.ZeroPadding2D(1, name=f"{name}_pad")(args[0])
            args = (padded[name], *args[1:])
        return layer(*args, **kwargs)

    clone_model: Callable[..., keras.Model] = keras.models.clone_model
    return clone_model(variant(SMALL), clone_function=clone, call_function=call)


def _strides(name: str) -> bool:
    return any(name.startswith(f"conv{stage}_block1_2") for stage in (3, 4, 5))


def _changes(layer: layers.Layer, remedies: set[str]) -> dict[str, Any]:
    if isinstance(layer, layers.BatchNormalization) and "batch-norm-epsilon" in remedies:
        return {"epsilon": 1e-5}
    if layer.name == "predictions" and "softmax" in remedies:
        return {"activation": "linear"}
    if layer.name == "conv1_conv" and "bias" in remedies:
        return {"use_bias": False}
    if "_group" in layer.name and _strides(layer.name) and "same-padding" in remedies:
        return {"padding": "valid"}
    return {}
