"""A small Keras model that gives one number an item: its output is of the shape (N,)."""

from __future__ import annotations

import keras
from keras import layers

from parity.network import kinds
from tests.studies.mutants.zoo import score_weights


class Score(layers.Flatten):
    """The batch's scores, in one axis."""

    def call(self, x):
        return keras.ops.reshape(x, (-1,))

    def compute_output_shape(self, shape):
        return shape[:1]

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape[:1], dtype=x.dtype)


def build() -> keras.Model:
    image = keras.Input((8, 8, 3), name="input")
    x = layers.Conv2D(6, 3, name="entry")(image)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(1, name="head")(x)
    model = keras.Model(image, Score(name="score")(x))
    for name, value in score_weights().items():
        layer, _, role = name.partition(".")
        role = {"weight": "kernel"}.get(role, role)
        kind = "conv" if layer == "entry" else "dense"
        target = model.get_layer(layer)
        variable = next(v for v in target.variables if v.name == role)
        variable.assign(kinds.get(kind).role(role).to_keras(value))
    return model
