"""In float64 a grouped Keras convolution calls TensorFlow's kernel, and means what it meant."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from parity.runtimes import keras_groups

pytestmark = pytest.mark.framework


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
    keras_groups.without_xla(model)
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
        keras_groups.without_xla(model)
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
