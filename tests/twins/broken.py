"""ResNet-18 for 10 classes at 64×64 in Keras, each with one mistake that people make.

They replace the registered Keras twin:
`parity compare resnet18 keras=tests.twins.broken:stride_moved --image-size 64 --classes 10`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from parity.network import architectures
from parity.network.models.resnet.keras import build

SMALL = architectures.get("resnet18", classes=10, image_size=(64, 64))


def _build_with(changes: Mapping[str, Mapping[str, Any]], spec: Any = SMALL) -> keras.Model:
    """Return the registered twin with some settings of some layers replaced."""

    def clone(layer: layers.Layer) -> layers.Layer:
        return type(layer).from_config({**layer.get_config(), **changes.get(layer.name, {})})

    model = build(spec)
    return keras.models.clone_model(model, clone_function=clone)


def healthy() -> keras.Model:
    return _build_with({})


def stride_moved() -> keras.Model:
    """The first block of stage 2 strides in its second convolution, not in its first."""
    return _build_with(
        {"conv3_block1_1_conv": {"strides": (1, 1)}, "conv3_block1_2_conv": {"strides": (2, 2)}}
    )


def same_padding() -> keras.Model:
    """TensorFlow's SAME where PyTorch pads (1, 1): (0, 1) at stride 2 on an even size."""
    return _build_with(
        {"conv3_block1_1_pad": {"padding": (0, 0)}, "conv3_block1_1_conv": {"padding": "same"}}
    )


def resnext_same_padding() -> keras.Model:
    """The same in a ResNeXt-50 of its published size, to measure on."""
    return _build_with(
        {"conv3_block1_2_pad": {"padding": (0, 0)}, "conv3_block1_2_conv": {"padding": "same"}},
        architectures.get("resnext50_32x4d"),
    )


def other_epsilon() -> keras.Model:
    """Keras's default batch-norm epsilon in one layer."""
    return _build_with({"conv2_block2_1_bn": {"epsilon": 1e-3}})


def slight_epsilon() -> keras.Model:
    """keras.applications' epsilon in one layer, a tenth of a percent from PyTorch's."""
    return _build_with({"conv2_block2_1_bn": {"epsilon": 1.001e-5}})


def two_faults() -> keras.Model:
    """Another epsilon in stage 1, and SAME padding in stage 3."""
    return _build_with(
        {
            "conv2_block2_1_bn": {"epsilon": 1e-3},
            "conv4_block1_1_pad": {"padding": (0, 0)},
            "conv4_block1_1_conv": {"padding": "same"},
        }
    )


def fewer_classes() -> keras.Model:
    return build(architectures.get("resnet18", classes=9, image_size=(64, 64)))
