"""The study's small models in Keras."""

from __future__ import annotations

import keras
from keras import layers

from tests.studies.training_mutants.tables import CLASSES


def mlp() -> keras.Model:
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Flatten(name="flat")(image)
    for number in (1, 2, 3):
        x = layers.Dense(24, name=f"fc{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(image, layers.Dense(CLASSES, name="head")(x))


def cnn() -> keras.Model:
    image = keras.Input((16, 16, 1), name="image")
    x = layers.ZeroPadding2D(1, name="pad1")(image)
    x = layers.Conv2D(8, 3, use_bias=False, name="conv1")(x)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="bn1")(x)
    x = layers.MaxPooling2D(2, name="pool1")(layers.ReLU(name="relu1")(x))
    x = layers.ZeroPadding2D(1, name="pad2")(x)
    x = layers.Conv2D(16, 3, name="conv2")(x)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name="bn2")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(layers.ReLU(name="relu2")(x))
    return keras.Model(image, layers.Dense(CLASSES, name="head")(x))
