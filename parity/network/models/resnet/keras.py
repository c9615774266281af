"""The Keras twin of the ResNet family, in the manner of keras.applications, with its names.

Where PyTorch sets the architecture and keras.applications another, PyTorch's holds: the stride of
a bottleneck sits on its 3×3 convolution, convolutions have no bias, batch-norm's ε is 1e-5, and
the model ends with logits.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import keras
from keras import layers

from parity.network.spec import require_one_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from parity.network.models.resnet.spec import ResNetSpec

    Block = Callable[..., keras.KerasTensor]

BN_EPSILON = 1e-5
# Keras's momentum is the complement of PyTorch's 0.1.
BN_MOMENTUM = 0.9


def conv_bn(
    x: keras.KerasTensor,
    filters: int,
    name: str,
    *,
    kernel_size: int = 1,
    strides: int = 1,
    groups: int = 1,
) -> keras.KerasTensor:
    """A convolution without bias and its batch-norm, `{name}_conv` and `{name}_bn`.

    The padding is a layer of its own, `{name}_pad`, since TensorFlow's SAME pads (0, 1) on even
    sizes at stride 2, and PyTorch (1, 1).
    """
    if kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="valid",
        groups=groups,
        use_bias=False,
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(epsilon=BN_EPSILON, momentum=BN_MOMENTUM, name=f"{name}_bn")(x)


def add(shortcut: keras.KerasTensor, branch: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return the sum of a block's shortcut and branch; raises `ArchitectureError` if they have two
    shapes.

    Keras's own layer stretches an axis of size 1 to fit.
    """
    first, second = ((x.shape[-1], *x.shape[1:-1]) for x in (shortcut, branch))
    require_one_shape(name, shortcut=first, branch=second)
    return layers.Add(name=name)([shortcut, branch])


def basic_block(
    x: keras.KerasTensor, filters: int, name: str, *, stride: int, project: bool
) -> keras.KerasTensor:
    """Two 3×3 convolutions beside a shortcut; the first one strides."""
    shortcut = conv_bn(x, filters, f"{name}_0", strides=stride) if project else x

    x = conv_bn(x, filters, f"{name}_1", kernel_size=3, strides=stride)
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = conv_bn(x, filters, f"{name}_2", kernel_size=3)

    x = add(shortcut, x, f"{name}_add")
    return layers.ReLU(name=f"{name}_out")(x)


def bottleneck_block(
    x: keras.KerasTensor,
    filters: int,
    name: str,
    *,
    stride: int,
    project: bool,
    groups: int,
    width_per_group: int,
) -> keras.KerasTensor:
    """1×1, 3×3 in groups, 1×1 to four times the filters, beside a shortcut; the 3×3 strides."""
    width = filters * width_per_group // 64 * groups
    shortcut = conv_bn(x, 4 * filters, f"{name}_0", strides=stride) if project else x

    x = conv_bn(x, width, f"{name}_1")
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = conv_bn(x, width, f"{name}_2", kernel_size=3, strides=stride, groups=groups)
    x = layers.ReLU(name=f"{name}_2_relu")(x)
    x = conv_bn(x, 4 * filters, f"{name}_3")

    x = add(shortcut, x, f"{name}_add")
    return layers.ReLU(name=f"{name}_out")(x)


def stack(
    x: keras.KerasTensor,
    block: Block,
    filters: int,
    blocks: int,
    name: str,
    *,
    stride: int,
    project: bool,
) -> keras.KerasTensor:
    """A stage; its first block strides, and projects its shortcut if the shapes differ."""
    x = block(x, filters, f"{name}_block1", stride=stride, project=project)
    for number in range(2, blocks + 1):
        x = block(x, filters, f"{name}_block{number}", stride=1, project=False)
    return x


def build(spec: ResNetSpec) -> keras.Model:
    """Return the functional model, (N, H, W, C) to logits, in Keras's current dtype policy."""
    block: Block = basic_block
    if spec.block == "bottleneck":
        block = partial(bottleneck_block, groups=spec.groups, width_per_group=spec.width_per_group)

    image = keras.Input((*spec.image_size, spec.channels), name="input")
    x = conv_bn(image, 64, "conv1", kernel_size=7, strides=2)
    x = layers.ReLU(name="conv1_relu")(x)
    # A ReLU comes before it, so that padding with 0 and with −∞ give the same maxima.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="valid", name="pool1_pool")(x)

    # Basic blocks keep the stem's 64 channels in the first stage; bottlenecks widen them to 256.
    widens = spec.block == "bottleneck"
    x = stack(x, block, 64, spec.depths[0], "conv2", stride=1, project=widens)
    x = stack(x, block, 128, spec.depths[1], "conv3", stride=2, project=True)
    x = stack(x, block, 256, spec.depths[2], "conv4", stride=2, project=True)
    x = stack(x, block, 512, spec.depths[3], "conv5", stride=2, project=True)

    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    logits = layers.Dense(spec.classes, name="predictions")(x)
    return keras.Model(image, logits, name=spec.name)
