"""Operators that tf2onnx writes wrongly or not at all: values at their edges, against Keras."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.framework

pytest.importorskip("exporters.keras_onnx")

import keras
import tensorflow as tf
from keras import layers, ops

from exporters.errors import ExportError

EDGES = np.array([-139, -7, -3, -1, 0, 1, 2, 7, 139, 2**24 + 1, -(2**24) - 1, 5], np.int32)
FLOATS = np.array(
    [-90.0, -1.5, -0.5, -1e-6, -0.0, 0.0, 1e-6, 0.3, 0.5, 1.5, 20.0, 60.0], np.float32
)


def compute(exported, body, array: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return what the file and the model compute of one row."""
    x = keras.Input(array.shape, dtype=array.dtype.name, name="x")
    model = keras.Model(x, body(x))
    file = exported(model)
    expected = [np.asarray(leaf) for leaf in keras.tree.flatten(model(array[None]))]
    return list(file(x=array[None]).values()), expected


INTEGERS = {
    "floor_divide": lambda x: ops.floor_divide(x, 3),
    "floor_divide by negative": lambda x: ops.floor_divide(x, -3),
    "mod": lambda x: ops.mod(x, 5),
    "mod of negative": lambda x: ops.mod(x, -5),
    "greater": lambda x: x > 2**24,
    "maximum": lambda x: ops.maximum(x, 2**24),
    "clip": lambda x: ops.clip(x, -(2**24) - 1, 2**24 + 1),
    "where": lambda x: ops.where(x > 0, x, x * 3),
    "one_hot": lambda x: ops.one_hot(x, 6),
    "argmax": lambda x: ops.argmax(x, axis=-1),
    "digitize": lambda x: ops.digitize(
        ops.cast(x, "float32"), np.array([-3.0, 0.0, 7.0], np.float32)
    ),
}


@pytest.mark.parametrize("body", INTEGERS.values(), ids=INTEGERS)
def test_integers_are_computed_exactly(exported, body):
    found, expected = compute(exported, body, EDGES)
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_array_equal(actual, wanted)


FUNCTIONS = {
    "celu": keras.activations.celu,
    "expm1": ops.expm1,
    "log1p": lambda x: ops.log1p(ops.abs(x)),
    "floor_divide": lambda x: ops.floor_divide(x, 0.7),
    "mod": lambda x: ops.mod(x, 0.7),
    "mod of negative": lambda x: ops.mod(x, -0.7),
    "nan_to_num": lambda x: ops.nan_to_num(x / ops.relu(x)),
    "argmax tells -0 from 0": lambda x: ops.argmax(ops.clip(x, -1, 0), axis=-1),
    "argmin tells -0 from 0": lambda x: ops.argmin(ops.relu(x) * -1, axis=-1),
    "infinite mask": lambda x: ops.softmax(ops.where(x > 0, x, -float("inf")), axis=-1),
    "log_sigmoid": keras.activations.log_sigmoid,
}


@pytest.mark.parametrize("body", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_are_right_at_their_edges(exported, body):
    found, expected = compute(exported, body, FLOATS)
    for actual, wanted in zip(found, expected, strict=True):
        # Relative, so that what is near zero counts too.
        np.testing.assert_allclose(actual, wanted, rtol=1e-6, atol=1e-30)


IMAGE = np.random.default_rng(0).standard_normal((12, 20, 3)).astype(np.float32)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "lanczos3"])
@pytest.mark.parametrize("size", [(23, 41), (7, 5), (24, 40), (11, 21)])
def test_images_are_resized_with_tensorflows_weights(exported, method, size):
    found, expected = compute(exported, layers.Resizing(*size, interpolation=method), IMAGE)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=2e-6)


def test_doubling_is_one_resize_with_sizes(exported):
    x = keras.Input((8, 8, 2))
    file = exported(keras.Model(x, layers.UpSampling2D(2, interpolation="bilinear")(x)))
    assert file.operators.count("Resize") == 1
    (resize,) = [node for node in file.proto.graph.node if node.op_type == "Resize"]
    assert list(resize.input[1:3]) == ["", ""]
    assert len(resize.input) == 4


@pytest.mark.parametrize(("stride", "kernel", "padding", "extra"), [
    (3, 2, "same", None), (3, 2, "valid", None), (2, 5, "valid", 1), (2, 3, "same", 0),
    (2, 3, "same", 1),
])  # fmt: skip
def test_transposed_convolutions(exported, stride, kernel, padding, extra):
    layer = layers.Conv2DTranspose(4, kernel, stride, padding, output_padding=extra)
    found, expected = compute(exported, layer, IMAGE)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=2e-6)
    assert "ConvTranspose" in exported(keras.Sequential([keras.Input((5, 5, 3)), layer])).operators


@pytest.mark.parametrize(("axis", "shape"), [(3, (8, 8, 3)), (-1, (8, 8, 3)), (1, (3, 8, 8))])
def test_batch_norm_along_a_given_axis_is_one_operator(exported, axis, shape):
    layer = layers.BatchNormalization(axis=axis)
    model = keras.Sequential([keras.Input(shape), layer, layers.ReLU()])
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    file = exported(model, channels_first=axis != 1)
    assert file.operators == ["BatchNormalization", "Relu"]
    assert {name.split("/")[-1] for name in (t.name for t in file.proto.graph.initializer)} == {
        "gamma", "beta", "moving_mean", "moving_variance"
    }  # fmt: skip


def test_strings_are_looked_up(exported):
    x = keras.Input((3,), dtype="string", name="x")
    lookup = layers.StringLookup(vocabulary=["a", "b", "c"])
    file = exported(keras.Model(x, lookup(x)))
    words = np.array([["a", "c", "other"]])
    (found,) = file(x=words.astype(object)).values()
    np.testing.assert_array_equal(found, np.asarray(lookup(tf.constant(words))))


def test_integers_are_looked_up(exported):
    lookup = layers.IntegerLookup(vocabulary=[3, 5, -7])
    found, expected = compute(exported, lookup, np.array([3, 5, -7, 6, 0], np.int64))
    np.testing.assert_array_equal(found[0], expected[0])


def test_bits_of_a_number_are_refused(exported):
    x = keras.Input((3,))
    bits = layers.Lambda(lambda t: tf.bitcast(t, tf.int32) // 2, output_shape=(3,), dtype="int32")
    with pytest.raises(ExportError, match=r"Bitcast.*compute this outside"):
        exported(keras.Model(x, bits(ops.cast(x, "float32"))))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
def test_lower_precisions(exported, policy):
    """bfloat16 is written as float32: float16 would overflow where it does not."""
    x = keras.Input((8,), name="x")
    y = layers.Dense(4, dtype=policy)(layers.Rescaling(1e5, dtype=policy)(x))
    model = keras.Model(x, layers.Rescaling(1e-5, dtype="float32")(y))
    if policy.endswith("float16") and "bfloat16" not in policy:
        model = keras.Model(x, layers.Dense(4, dtype=policy)(x))
    values = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    file = exported(model)
    kind = np.float16 if "float16)" in file.session.get_inputs()[0].type else np.float32
    (found,) = file(x=values.astype(kind)).values()
    expected = np.asarray(model(values)).astype(np.float32)
    np.testing.assert_allclose(found.astype(np.float32), expected, rtol=0.02, atol=0.02)
    assert np.isfinite(found).all()


def test_an_operator_of_a_newer_opset_is_named_with_that_opset(exported):
    x = keras.Input((8,), dtype="int32", name="x")
    model = keras.Model(x, ops.bitwise_xor(x, np.full(8, 5, np.int32)))
    with pytest.raises(ExportError, match=r"BitwiseXor \(.*export with opset=18"):
        exported(model, opset=17)
    file = exported(model, opset=18)
    (found,) = file(x=EDGES[None, :8]).values()
    np.testing.assert_array_equal(found, EDGES[None, :8] ^ 5)


@pytest.mark.parametrize("count", [1, 2])
def test_constants_that_are_added_behind_a_convolution_with_a_bias(exported, count):
    """tf2onnx writes them as further biases of the convolution, which has one place for them."""
    convolution = layers.Conv2D(3, 3, bias_initializer="random_normal")

    def body(x):
        y = convolution(x)
        for number in range(count):
            y = y + np.array([0.5, -1.0, number], np.float32)
        return y

    array = np.random.default_rng(0).standard_normal((6, 6, 2)).astype(np.float32)
    (found,), (expected,) = compute(exported, body, array)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
