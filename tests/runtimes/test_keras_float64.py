"""In float64 a grouped Keras convolution calls TensorFlow's kernel, and means what it meant."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest

from parity.runtimes.keras import float64, grouped_convolutions

pytestmark = pytest.mark.framework


@pytest.fixture(autouse=True, scope="module")
def exact():
    float64.install()


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("size", "strides", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 1, 2), (1, 2, 1)]
)
def test_grouped_convolution_means_the_same(padding, size, strides, dilation):
    layer = keras.layers.Conv2D(
        12, size, strides=strides, dilation_rate=dilation, padding=padding, groups=3
    )
    model, x = _model(layer)
    by_xla = np.asarray(model(x))
    grouped_convolutions.disable_xla(model)
    direct = np.asarray(model(x))
    assert direct.dtype == np.float64
    np.testing.assert_allclose(direct, by_xla, rtol=1e-12, atol=1e-12)
    assert _compiled(layer) == 0
    # The layer's own weights and hyperparameters are what is run.
    layer.strides, layer.dilation_rate = (3, 3), (1, 1)
    assert np.asarray(model(x)).shape != by_xla.shape


def test_what_is_not_a_plain_grouped_convolution_is_left_alone():
    class Own(keras.layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, kernel) * 3.0

    for layer in (Own(6, 3, groups=3), keras.layers.Conv2D(6, 3)):
        model, x = _model(layer)
        before = np.asarray(model(x))
        grouped_convolutions.disable_xla(model)
        assert "convolution_op" not in vars(layer)
        np.testing.assert_array_equal(np.asarray(model(x)), before)


def _model(layer):
    keras.utils.set_random_seed(0)
    layer.dtype_policy = keras.DTypePolicy("float64")
    feed = keras.Input((11, 13, 6), dtype="float64")
    x = np.random.default_rng(0).standard_normal((2, 11, 13, 6))
    return keras.Model(feed, layer(feed)), x


def _compiled(layer) -> int:
    """How often Keras compiles when the layer is called."""
    import tensorflow as tf

    calls = []
    function = tf.function
    tf.function = lambda *given, **options: calls.append(options) or function(*given, **options)
    try:
        layer(np.zeros((1, 11, 13, 6)))
    finally:
        tf.function = function
    return len(calls)


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_has_no_float32_constants(approximate):
    x = np.linspace(-4.0, 4.0, 801)
    erf = np.vectorize(math.erf)
    exact = 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))
    if approximate:
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
        exact = 0.5 * x * (1.0 + np.tanh(inner))
    made = np.asarray(keras.activations.gelu(x, approximate=approximate))
    assert made.dtype == np.float64
    np.testing.assert_allclose(made, exact, rtol=1e-13, atol=1e-15)


def test_a_slope_is_no_float32():
    x = np.linspace(-4.0, 4.0, 801)
    layer = keras.layers.LeakyReLU(0.01, dtype="float64")
    np.testing.assert_allclose(np.asarray(layer(x)), np.where(x > 0, x, 0.01 * x), rtol=1e-15)


@pytest.mark.parametrize("function", ["leaky_relu", "gelu"])
def test_in_float32_tensorflow_computes_as_ever(function):
    import tensorflow as tf

    x = np.linspace(-4.0, 4.0, 801, dtype=np.float32)
    plain = {"leaky_relu": partial(tf.nn.leaky_relu, alpha=0.01), "gelu": tf.nn.gelu}[function]
    ours = {
        "leaky_relu": partial(keras.ops.leaky_relu, negative_slope=0.01),
        "gelu": partial(keras.ops.gelu, approximate=False),
    }[function]
    np.testing.assert_array_equal(np.asarray(ours(x)), np.asarray(plain(x)))


def test_a_depthwise_kernel_with_a_multiplier_is_copied_as_it_is():
    """PyTorch's output channel is c·M + m, as Keras's is."""
    from parity.network.table import Row, Weight
    from parity.runtimes.keras.weights import read_weights, write_weights

    layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depth")
    feed = keras.Input((5, 5, 4))
    model = keras.Model(feed, layer(feed))
    weight = Weight("kernel", "depth.weight", "depthwise_kernel", (8, 1, 3, 3))
    name = layer.weights[0].name
    row = Row("depth", "depth", "depthwise_conv", "depth", "depth", (8, 3, 3),
              (replace(weight, keras=name),))  # fmt: skip
    kernel = np.random.default_rng(1).standard_normal((8, 1, 3, 3)).astype(np.float32)
    write_weights(model, [row], {"depth.weight": kernel})
    np.testing.assert_array_equal(read_weights(model, [row])["depth.weight"], kernel)
    x = np.random.default_rng(2).standard_normal((1, 5, 5, 4)).astype(np.float32)
    made = np.asarray(model(x))
    first = (x[0, :3, :3, 1] * kernel[3, 0]).sum()
    np.testing.assert_allclose(made[0, 0, 0, 3], first, rtol=1e-5)
