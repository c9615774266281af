"""The Keras twin of the textbook's ResNet-18, its layers named as keras.applications names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from parity.network.models.resnet.keras import add

if TYPE_CHECKING:
    from parity.network.models.d2l.spec import TextbookSpec

BN = {"epsilon": 1e-5, "momentum": 0.9}


def padded_conv(
    x: keras.KerasTensor, filters: int, size: int, strides: int, name: str
) -> keras.KerasTensor:
    """A convolution with bias on explicitly padded input, `{name}_pad` and `{name}_conv`."""
    x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, size, strides=strides, name=f"{name}_conv")(x)


def residual(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    """Two 3×3 convolutions beside a shortcut, which a 1×1 convolution may project."""
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides=strides, name=f"{name}_0_conv")(x)
    x = padded_conv(x, filters, 3, strides, f"{name}_1")
    x = layers.BatchNormalization(**BN, name=f"{name}_1_bn")(x)
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = padded_conv(x, filters, 3, 1, f"{name}_2")
    x = layers.BatchNormalization(**BN, name=f"{name}_2_bn")(x)
    x = add(shortcut, x, f"{name}_add")
    return layers.ReLU(name=f"{name}_out")(x)


def build(spec: TextbookSpec) -> keras.Model:
    """Return the functional model for `spec`, (N, H, W, C) to logits."""
    image = keras.Input((*spec.image_size, spec.channels), name="input")
    x = padded_conv(image, 64, 7, 2, "conv1")
    x = layers.BatchNormalization(**BN, name="conv1_bn")(x)
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for index, blocks in enumerate(spec.depths):
        for number in range(blocks):
            strides = 2 if index > 0 and number == 0 else 1
            x = residual(x, 64 * 2**index, strides, f"conv{index + 2}_block{number + 1}")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    logits = layers.Dense(spec.classes, name="predictions")(x)
    return keras.Model(image, logits, name="resnet18_d2l")
