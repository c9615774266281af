"""ResNeXt for Keras as it is often published, with its errors, which comparisons must explain.

None of this is how it should be written; `parity.network.models.resnet.keras` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from parity.network.models.resnet.keras import add

if TYPE_CHECKING:
    from parity.network.models.written_groups.spec import WrittenGroupsSpec

# keras.applications' value, a tenth of a percent from PyTorch's.
BN_EPSILON = 1.001e-5


def grouped_conv(
    x: keras.KerasTensor, filters: int, groups: int, strides: int, name: str, *, bound: bool
) -> keras.KerasTensor:
    """A loop over the groups: slice, convolve, concatenate."""
    width = filters // groups
    parts = []
    for c in range(groups):
        if bound:
            cut = layers.Lambda(
                lambda z, c=c: z[:, :, :, c * width : (c + 1) * width], name=f"{name}_slice{c}"
            )
        else:
            # The mistake: under Keras 3 the function runs again when the model does, and by then
            # the loop variable holds its last value.
            cut = layers.Lambda(
                lambda z: z[:, :, :, c * width : (c + 1) * width],  # noqa: B023
                name=f"{name}_slice{c}",
            )
        part = layers.Conv2D(
            width, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_group{c}"
        )
        parts.append(part(cut(x)))
    return layers.Concatenate(name=f"{name}_concat")(parts)


def dense_groups(
    x: keras.KerasTensor, filters: int, groups: int, strides: int, name: str
) -> keras.KerasTensor:
    """A loop over the groups that slices nothing: each convolution reads the whole input."""
    parts = [
        layers.Conv2D(
            filters // groups, 3, strides=strides, padding="same", use_bias=False,
            name=f"{name}_group{c}",
        )(x)
        for c in range(groups)
    ]  # fmt: skip
    return layers.Concatenate(name=name.replace("conv2", "concat2"))(parts)


class Names:
    """The names of one block's layers."""

    def __init__(self, stage: int, block: int, *, applications: bool) -> None:
        self.applications = applications
        self.prefix = f"conv{stage}_block{block}" if applications else f"block{stage}_{block}"

    def __call__(self, number: int, kind: str) -> str:
        if self.applications:
            return f"{self.prefix}_{number}_{kind}"
        return f"{self.prefix}_{kind}{number}"


def conv_bn(
    x: keras.KerasTensor, filters: int, strides: int, names: Names, number: int
) -> keras.KerasTensor:
    conv = layers.Conv2D(filters, 1, strides=strides, use_bias=False, name=names(number, "conv"))
    return layers.BatchNormalization(epsilon=BN_EPSILON, name=names(number, "bn"))(conv(x))


def block(
    x: keras.KerasTensor, filters: int, strides: int, spec: WrittenGroupsSpec, names: Names,
    *, project: bool,
) -> keras.KerasTensor:  # fmt: skip
    width = filters * spec.width_per_group // 64 * spec.groups
    shortcut = conv_bn(x, 4 * filters, strides, names, 0) if project else x

    x = conv_bn(x, width, 1, names, 1)
    x = layers.ReLU(name=names(1, "relu"))(x)
    if spec.slices == "whole":
        x = dense_groups(x, width, spec.groups, strides, names(2, "conv"))
    else:
        name = names(2, "conv").removesuffix("_conv")
        x = grouped_conv(x, width, spec.groups, strides, name, bound=spec.slices == "bound")
    x = layers.BatchNormalization(epsilon=BN_EPSILON, name=names(2, "bn"))(x)
    x = layers.ReLU(name=names(2, "relu"))(x)
    x = conv_bn(x, 4 * filters, 1, names, 3)

    x = add(shortcut, x, f"{names.prefix}_add")
    return layers.ReLU(name=f"{names.prefix}_out")(x)


def build(spec: WrittenGroupsSpec) -> keras.Model:
    """Return the model for `spec`, (N, H, W, C) to probabilities."""
    applications = spec.slices != "whole"
    image = keras.Input((*spec.image_size, spec.channels), name="input")
    if applications:
        x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
        x = layers.Conv2D(64, 7, strides=2, name="conv1_conv")(x)
    else:
        x = layers.Conv2D(64, 7, strides=2, padding="same", use_bias=False, name="conv1_conv")(
            image
        )
    x = layers.BatchNormalization(epsilon=BN_EPSILON, name="conv1_bn")(x)
    x = layers.ReLU(name="conv1_relu")(x)
    if applications:
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    padding = "valid" if applications else "same"
    x = layers.MaxPooling2D(3, strides=2, padding=padding, name="pool1_pool")(x)
    for stage, (filters, depth) in enumerate(zip((64, 128, 256, 512), spec.depths, strict=True)):
        for number in range(depth):
            strides = 2 if stage > 0 and number == 0 else 1
            names = Names(stage + 2, number + 1, applications=applications)
            x = block(x, filters, strides, spec, names, project=number == 0)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(spec.classes, activation="softmax", name="predictions")(x)
    return keras.Model(image, x, name=spec.name.partition("@")[2])
