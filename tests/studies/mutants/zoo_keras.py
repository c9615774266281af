"""A small Keras model of the kinds of layers that residual networks lack."""

from __future__ import annotations

import keras
from keras import layers

from parity.network import kinds
from parity.runtimes.keras.layers import kind_of
from tests.studies.mutants.zoo import CLASSES, SLOPE, weights

ROLES = {
    "weight": "kernel",
    "bias": "bias",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def build() -> keras.Model:
    image = keras.Input((30, 30, 3), name="input")
    x = layers.ZeroPadding2D(1, name="entry_pad")(image)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="entry")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name="norm")(x)
    x = layers.LeakyReLU(SLOPE, name="leaky")(x)
    # On 15 pixels SAME pads (1, 1), as the twin does, and its maximum never sees the padding.
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="max")(x)
    x = layers.ZeroPadding2D(1, name="depth_pad")(x)
    x = layers.DepthwiseConv2D(3, name="depth")(x)
    x = layers.Activation(keras.activations.gelu, name="gelu")(x)
    x = layers.AveragePooling2D(3, strides=1, padding="same", name="mean")(x)
    x = layers.ZeroPadding2D(1, name="wide_pad")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="wide")(x)
    x = layers.ZeroPadding2D(1, name="grouped_pad")(x)
    x = layers.Conv2D(16, 3, groups=4, use_bias=False, name="grouped")(x)
    x = layers.Permute((3, 1, 2), name="channels_first")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, name="hidden")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Dense(64, name="square")(x)
    model = keras.Model(image, layers.Dense(CLASSES, name="head")(x))
    for name, value in weights().items():
        layer, _, role = name.partition(".")
        target = model.get_layer(layer)
        if layer == "norm":
            role = {"weight": "gamma", "bias": "beta"}.get(role, ROLES.get(role))
        else:
            role = ROLES[role]
        variable = next(v for v in target.variables if v.name == role)
        weight_role = next(r for r in kinds.get(kind_of(target)).roles if r.keras == role)
        variable.assign(weight_role.to_keras(value, shape=tuple(variable.shape)))
    return model
