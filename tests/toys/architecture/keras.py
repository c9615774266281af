"""The toy's Keras twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from parity.network.models.toy.spec import ToySpec


def build(spec: ToySpec) -> keras.Model:
    """The functional model for `spec`, (N, H, W, C) to logits."""
    image = keras.Input((*spec.image_size, spec.channels), name="input")
    x = layers.Conv2D(spec.width, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(spec.classes, name="fc")(x), name="toy")
