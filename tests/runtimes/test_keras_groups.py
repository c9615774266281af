"""Grouped convolutions that are written out, padded in each of the ways that people pad them."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.framework

GROUPS, CHANNELS = 4, 8


def grouped(pad):
    """8 channels of 8×8 in four groups at stride 2; `pad` is before, behind, same or nowhere."""
    import keras
    from keras import layers

    image = keras.Input((8, 8, CHANNELS))
    x = layers.ZeroPadding2D(1, name="pad")(image) if pad == "before" else image
    parts = []
    for c in range(GROUPS):
        y = layers.Lambda(lambda z, c=c: z[..., 2 * c : 2 * c + 2], name=f"slice{c}")(x)
        if pad == "behind":
            y = layers.ZeroPadding2D(1, name=f"pad{c}")(y)
        kind = "same" if pad == "same" else "valid"
        parts.append(layers.Conv2D(2, 3, strides=2, padding=kind, name=f"part{c}")(y))
    return keras.Model(image, layers.Concatenate(name="joined")(parts))


def described(model):
    from parity.network.table import LayerTable, Row
    from parity.runtimes.keras import layers as keras_layers

    table = LayerTable((Row("conv", "body", "conv", "joined", "conv"),))
    return keras_layers.describe_layers(model, table)


@pytest.mark.parametrize(
    ("pad", "padding"),
    [
        ("before", [[1, 1], [1, 1]]),
        ("behind", [[1, 1], [1, 1]]),
        ("same", [[0, 1], [0, 1]]),
        ("nowhere", [[0, 0], [0, 0]]),
    ],
)
def test_the_padding_is_the_convolutions_own(pad, padding):
    (layer,) = described(grouped(pad))
    assert (layer["row"], layer["kind"]) == ("conv", "conv")
    assert layer["hyper"]["padding"] == padding
    assert layer["hyper"]["groups"] == GROUPS
    assert layer["hyper"]["in"] == layer["hyper"]["out"] == CHANNELS
    assert layer["parameters"] == GROUPS * (2 * 2 * 9 + 2)


def test_groups_that_are_padded_in_different_ways_are_no_grouped_convolution():
    import keras
    from keras import layers

    image = keras.Input((8, 8, 4))
    parts = []
    for c in range(2):
        y = layers.Lambda(lambda z, c=c: z[..., 2 * c : 2 * c + 2])(image)
        y = layers.ZeroPadding2D(((0, 2), (0, 2)) if c else 1)(y)
        parts.append(layers.Conv2D(2, 3)(y))
    model = keras.Model(image, layers.Concatenate(name="joined")(parts))
    kinds = {layer["kind"] for layer in described(model)}
    # The parts stand for themselves, and the row that they were taken for is of another kind.
    assert {"pad", "conv", "concat"} <= kinds
