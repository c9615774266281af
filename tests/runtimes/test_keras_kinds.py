"""What is read of a Keras layer, given to its kind's operator, is what the layer computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from parity.network import kinds
from parity.network.layouts import to_nchw
from parity.runtimes.keras import layers as keras_layers

pytestmark = pytest.mark.framework

IMAGE = (7, 10, 4)

LAYERS = {
    "conv": [
        layers.Conv2D(6, (3, 2), strides=2, padding="same", activation="silu"),
        layers.Conv2D(6, 3, groups=2, dilation_rate=(1, 2), use_bias=False),
        layers.Conv2D(6, 3, activation="hard_silu"),
    ],
    "depthwise_conv": [
        layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
        layers.DepthwiseConv2D((2, 3), dilation_rate=2),
    ],
    "conv_transpose": [
        layers.Conv2DTranspose(6, (3, 2)),
        layers.Conv2DTranspose(6, 2, strides=(3, 2), activation="relu"),
        layers.Conv2DTranspose(6, (3, 4), strides=2, padding="same"),
        layers.Conv2DTranspose(6, (2, 3), strides=(3, 2), padding="same", use_bias=False),
        layers.Conv2DTranspose(6, 3, strides=2, padding="same", output_padding=1),
        layers.Conv2DTranspose(6, 3, strides=2, output_padding=1),
    ],
    "dense": [layers.Dense(5, activation="gelu")],
    "batch_norm": [layers.BatchNormalization(epsilon=0.1, scale=False)],
    "layer_norm": [layers.LayerNormalization(epsilon=0.1)],
    "group_norm": [layers.GroupNormalization(2, epsilon=0.1), layers.GroupNormalization(-1)],
    "relu": [layers.ReLU(), layers.Activation("relu")],
    "relu6": [layers.Activation("relu6")],
    "elu": [layers.ELU(0.3), layers.Activation("elu")],
    "silu": [layers.Activation("swish")],
    "sigmoid": [layers.Activation("sigmoid")],
    "tanh": [layers.Activation("tanh")],
    "softplus": [layers.Activation("softplus")],
    "gelu": [layers.Activation("gelu")],
    "hard_sigmoid": [layers.Activation("hard_sigmoid")],
    "hard_swish": [layers.Activation("hard_swish")],
    "softmax": [layers.Softmax()],
    "leaky_relu": [layers.LeakyReLU(0.2)],
    "max_pool": [layers.MaxPooling2D(3, 2, "same"), layers.MaxPooling2D((2, 3), 2)],
    "avg_pool": [layers.AveragePooling2D(3, 2, "same"), layers.AveragePooling2D((2, 3), 1)],
    "global_max_pool": [layers.GlobalMaxPooling2D()],
    "global_avg_pool": [layers.GlobalAveragePooling2D()],
    "add": [layers.Add()],
    "multiply": [layers.Multiply()],
    "sub": [layers.Subtract()],
    "maximum": [layers.Maximum()],
    "minimum": [layers.Minimum()],
    "concat": [layers.Concatenate()],
    "identity": [layers.Identity()],
    "dropout": [layers.Dropout(0.5)],
    "reshape": [layers.Reshape((14, 5, 4)), layers.Reshape((-1,)), layers.Reshape((10, -1, 4))],
    "pad": [layers.ZeroPadding2D(((1, 2), (0, 3)))],
    "upsample": [
        layers.UpSampling2D((2, 3)),
        layers.UpSampling2D((2, 3), interpolation="bilinear"),
    ],
}
"""Of every kind that Keras has a layer or a function for."""

BY_VALUE = {"flatten"}
"""Keras flattens in the order (H, W, C): its operator is PyTorch's, as the layer table's is."""

FLAT = {"dense", "layer_norm"}
"""Kinds that are tried on vectors."""


def drawn(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_every_kind_of_keras_is_tried():
    named = {k.name for k in kinds.registry().values() if k.keras or k.keras_functions}
    assert set(LAYERS) | BY_VALUE == named


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_the_operator_with_the_settings_that_are_read_is_the_layer(kind):
    for layer in LAYERS[kind]:
        found = kinds.get(kind)
        shape = IMAGE[-1:] if kind in FLAT else IMAGE
        inputs = [keras.Input(shape) for _ in range(1 + found.joins_branches)]
        output = layer(inputs if found.joins_branches else inputs[0])
        model = keras.Model(inputs, output)
        for seed, variable in enumerate(layer.weights):
            if "seed" not in variable.path:
                variable.assign(np.abs(drawn(variable.shape, seed)))
        data = [drawn((2, *shape), 100 + index) for index in range(len(inputs))]
        expected = to_nchw(np.asarray(model(data, training=False)))

        assert keras_layers.kind_of(layer) == kind
        node = layer._inbound_nodes[0]
        settings = keras_layers.read_hyperparameters(
            layer, node, keras_layers.infer_shapes(model, None)
        )
        weights = {
            role.name: role.from_keras(np.asarray(variable))
            for role in found.roles
            for variable in layer.weights
            if variable.name == role.keras
        }
        assert len(weights) == len([v for v in layer.weights if "seed" not in v.path])
        actual = kinds.evaluate(
            kind, [to_nchw(array).astype(np.float64) for array in data], weights, settings
        )
        assert actual.shape == expected.shape, settings
        error = np.abs(actual - expected).max()
        assert error <= 2e-6 * np.abs(expected).max(), (settings, error)


@pytest.mark.parametrize("kind", kinds.registry().values(), ids=lambda kind: kind.name)
def test_every_name_is_one_of_keras(kind):
    for name in kind.keras:
        assert isinstance(getattr(layers, name), type)
    for name in kind.keras_functions:
        assert callable(keras.activations.get(name))
    for setting in kind.hyperparameters:
        attributes = {f"{kind.name}.{setting.name}", setting.name} & set(keras_layers.READERS)
        if setting.keras and not attributes:
            assert any(hasattr(layer, setting.keras) for layer in LAYERS[kind.name]), setting.name


def test_a_class_of_that_name_from_elsewhere_is_no_kind():
    class Conv2D(keras.Layer):
        pass

    assert keras_layers.kind_of(Conv2D()) == ""


def test_a_class_that_inherits_is_of_its_parents_kind():
    class Own(layers.Conv2D):
        pass

    assert keras_layers.kind_of(Own(3, 3)) == "conv"


def test_a_size_that_is_left_open_leaves_the_crop_unstated():
    image = keras.Input((None, None, 3))
    layer = layers.Conv2DTranspose(2, 3, strides=2)
    model = keras.Model(image, layer(image))
    node = layer._inbound_nodes[0]
    assert "padding" not in keras_layers.read_hyperparameters(
        layer, node, keras_layers.infer_shapes(model, None)
    )
    known = keras_layers.infer_shapes(model, (3, 5, 6))
    assert keras_layers.read_hyperparameters(layer, node, known)["padding"] == [[0, 0], [0, 0]]
