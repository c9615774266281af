"""The same network as in nets.py, written in Keras by another person."""

import keras
from keras import layers


def build(seed: int = 1) -> keras.Model:
    """Return the network with seeded weights."""
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((32, 32, 3))
    x = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(8, 3, padding="same")(x))
    y = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(8, 3, padding="same")(x))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(5)(x))
