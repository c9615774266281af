"""Models as people write them in Keras; their twins are those of `user_torch`."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def _block(x: Any, filters: int, momentum: float, name: str) -> Any:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=momentum, name=f"{name}_norm")(x)
    return keras.ops.relu(x)


def keras_cnn(
    num_classes: int = 10, momentum: float = 0.9, dropout: float = 0.0, frozen: str = "",
    stop: bool = False, activation: str = "relu", size: int = 8, shortcut: bool = True,
    head: str = "linear",
) -> keras.Model:  # fmt: skip
    """The twin of `TorchCnn`; the others are faults of training alone."""
    image = keras.Input((size, size, 1))
    x = _block(image, 6, 0.9, "stem")
    y = _block(x, 6, momentum, "body")
    x = (x if shortcut else keras.ops.stop_gradient(x)) + (
        keras.ops.stop_gradient(y) if stop else y
    )
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    x = layers.Dense(16, activation=activation, name="hidden")(x)
    x = layers.LayerNormalization()(x)
    model = keras.Model(image, layers.Dense(num_classes, activation=head, name="head")(x))
    if frozen:
        model.get_layer(frozen).trainable = False
    return model


def keras_attention(num_classes: int = 10) -> keras.Model:
    """The twin of `TorchAttention`: query, key and value have kernels of their own here."""
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 2, strides=2)(image)
    x = layers.Reshape((16, 8))(x)
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = x + layers.MultiHeadAttention(2, 4)(y, y)
    return keras.Model(image, layers.Dense(num_classes)(layers.GlobalAveragePooling1D()(x)))


class KerasCnn(keras.Model):
    """The same as `keras_cnn`, as a subclass: its layers are built by the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = layers.Conv2D(6, 3, padding="same", use_bias=False)
        self.stem_norm = layers.BatchNormalization(momentum=0.9)
        self.body = layers.Conv2D(6, 3, padding="same", use_bias=False)
        self.body_norm = layers.BatchNormalization(momentum=0.9)
        self.pool = layers.MaxPooling2D()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(16, activation="relu")
        self.norm = layers.LayerNormalization()
        self.head = layers.Dense(10)

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = keras.ops.relu(self.stem_norm(self.stem(x), training=training))
        x = x + keras.ops.relu(self.body_norm(self.body(x), training=training))
        x = self.hidden(self.flatten(self.pool(x)))
        return self.head(self.norm(x))


def keras_padded(num_classes: int = 10) -> keras.Model:
    """The twin of `torch_padded`: the padding is a layer of its own."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.ZeroPadding2D(1),
            layers.MaxPooling2D(3, 2),
            layers.Conv2D(8, 3, padding="same"),
            layers.ReLU(max_value=6),
            layers.GlobalAveragePooling2D(),
            layers.Dense(num_classes),
        ]
    )


def keras_normed(num_classes: int = 10) -> keras.Model:
    """The twin of `torch_normed`."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(epsilon=1e-5),
            layers.Activation("elu"),
            layers.Conv2D(8, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(num_classes),
        ]
    )


def keras_grouped(num_classes: int = 10, bias: bool = False) -> keras.Model:
    """The twin of `torch_grouped`."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", activation="elu"),
            layers.Conv2D(8, 3, padding="same", groups=2, use_bias=bias),
            layers.GlobalAveragePooling2D(),
            layers.Dense(num_classes),
        ]
    )
