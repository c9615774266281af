"""What a model computed or made while it was built goes into the graph, or is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.framework

keras_onnx = pytest.importorskip("exporters.keras_onnx")

import keras
import tensorflow as tf
from keras import layers, ops

from exporters.errors import ExportError


def normalization() -> layers.Layer:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).standard_normal((50, 6)) * 3 + 1)
    return layer


class Positions(layers.Layer):
    """A table that is computed when the layer is made."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ops.convert_to_tensor(np.linspace(0, 1, 60, dtype="float32").reshape(10, 6))

    def call(self, x):
        return x + self.table[: ops.shape(x)[0]][0]


class RawVariable(layers.Layer):
    """Variables that Keras does not know, read and gathered from."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.hidden = {"factor": tf.Variable(np.arange(6, dtype="float32"))}
        self.rows = tf.Variable(np.arange(12, dtype="float32").reshape(2, 6))

    def call(self, x):
        return x * self.hidden["factor"] + tf.gather(self.rows, [1])


LAYERS = {
    "normalization": normalization,
    "tensor": lambda: layers.Lambda(lambda x: x - ops.convert_to_tensor(np.arange(6.0, dtype="f"))),
    "positions": Positions,
    "raw variable": RawVariable,
    "rescaling": lambda: layers.Rescaling(np.arange(1.0, 7.0), offset=np.arange(6.0)),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_what_was_computed_before_is_a_constant(exported, make):
    model = keras.Sequential([keras.Input((6,), name="x"), make()])
    x = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    (found,) = exported(model)(x=x).values()
    np.testing.assert_allclose(found, model(x), rtol=1e-6)


class Scalars(layers.Layer):
    """A weight, a variable and a tensor without an axis, in a type that NumPy does not know."""

    def build(self, _):
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.offset = tf.Variable(tf.constant(1.5, tf.bfloat16))
        self.factor = tf.constant(2.0, tf.bfloat16)

    def call(self, x):
        return x * self.scale * self.factor + self.offset


def test_a_bfloat16_number_without_axes_is_exported(exported):
    head = layers.Activation("linear", dtype="float32")
    model = keras.Sequential([keras.Input((4,), name="x"), Scalars(dtype="bfloat16"), head])
    (found,) = exported(model)(x=np.ones((1, 4), np.float32)).values()
    assert found.tolist() == [[3.5] * 4]


def test_constants_are_called_by_their_layer(exported):
    model = keras.Sequential(
        [
            keras.Input((6,), name="x"),
            layers.Normalization(mean=1.0, variance=4.0, name="scale"),
            RawVariable(name="raw"),
        ]
    )
    names = {tensor.name for tensor in exported(model).proto.graph.initializer}
    assert any("scale/constant" in name for name in names)
    assert any("raw/Variable" in name for name in names)


def test_preprocessing_inside_the_model(exported):
    x = keras.Input((8, 8, 3), name="x")
    model = keras.Model(x, keras.applications.resnet.preprocess_input(x))
    image = np.random.default_rng(1).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    (found,) = exported(model)(x=image).values()
    np.testing.assert_allclose(found, model(image), rtol=1e-6)


def test_a_layer_that_fails_is_named_with_its_source_line(exported):
    class Decides(layers.Layer):
        def call(self, x):
            return x if tf.reduce_sum(x) > 0 else -x

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.decides = Decides(name="decides")

        def call(self, x):
            return self.decides(x)

    model = Model()
    model(np.ones((2, 4), np.float32))
    with pytest.raises(
        ExportError, match=r"layer model\S*/decides, test_tracing_graph.py:\d+: .*keras.ops.cond"
    ):
        exported(model, sample=np.ones((3, 4), np.float32))


def test_random_numbers_are_refused(exported):
    class Drops(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = layers.Dropout(0.5)

        def call(self, x):
            return self.dropout(x, training=True)

    with pytest.raises(ExportError, match="draws random numbers in inference mode"):
        exported(keras.Sequential([keras.Input((8,)), Drops()]))
    x = keras.Input((8,))
    noise = layers.Lambda(lambda t: t + tf.random.normal(tf.shape(t)), output_shape=(8,))
    with pytest.raises(ExportError, match=r"draws random numbers .*RandomStandardNormal"):
        exported(keras.Model(x, noise(x)))


def test_a_variable_that_is_written_is_refused_where_the_result_depends_on_it(exported):
    class Counts(layers.Layer):
        def __init__(self, used: bool) -> None:
            super().__init__()
            self.used = used
            self.calls = self.add_weight(name="calls", trainable=False)

        def call(self, x):
            self.calls.assign(self.calls + 1.0)
            return x + self.calls if self.used else x * 2.0

    def model(used: bool) -> keras.Model:
        return keras.Sequential([keras.Input((4,)), Counts(used)])

    with pytest.raises(ExportError, match=r"writes to its variable \S*calls"):
        exported(model(True))
    counts = model(False)
    before = float(counts.layers[0].calls.value)
    exported(counts)
    assert float(counts.layers[0].calls.value) == before  # the caller's model is as it was


WRONG = {
    "a path": lambda m: ("model.keras",),
    "a layer": lambda m: (layers.Dense(2),),
    "a tensor": lambda m: (tf.ones(3),),
    "none": lambda m: (None,),
    "names": lambda m: (m, {"inputs": "x"}),
    "no names": lambda m: (m, {"inputs": tf.ones(1)}),
    "outputs": lambda m: (m, {"outputs": [""]}),
    "opset": lambda m: (m, {"opset": "17"}),
    "taps": lambda m: (m, {"taps": ["dense"]}),
    "metadata": lambda m: (m, {"metadata": {"a": 1}}),
    "structure": lambda m: (m, {"structure": "s"}),
    "signature": lambda m: (m, {"signature": np.ones((3, 4))}),
    "unknown rank": lambda m: (m, {"signature": tf.TensorSpec(None)}),
    "sample": lambda m: (m, {"sample": "x"}),
    "key of a sample": lambda m: (m, {"sample": {"y": np.ones((3, 4), np.float32)}}),
    "shape of a sample": lambda m: (m, {"sample": [np.ones((3, 5), np.float32)]}),
    "dataset": lambda m: (m, {"sample": tf.data.Dataset.from_tensors(np.ones((3, 4)))}),
    "unbuilt": lambda m: (keras.Sequential([layers.Dense(2)]),),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_call_is_one_error_and_leaves_no_file(wrong, tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    subject, *options = wrong(model)
    with pytest.raises(ExportError, match=r"."):
        keras_onnx.export(subject, tmp_path / "a.onnx", **(options[0] if options else {}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["my model", "a@b", "été", "_x", "-"])
def test_a_model_and_its_layers_may_have_any_name(exported, name):
    """In eager execution they may; the scopes of a TensorFlow graph take few characters."""
    cell = layers.StackedRNNCells([layers.SimpleRNNCell(3, name=f"{name} 1")], name=f"{name} 2")
    sequence = keras.Input((4, 2), name=f"{name} 3")
    recurrent = layers.RNN(cell, name=f"{name} 4")(sequence)
    model = keras.Model(sequence, layers.Dense(2, name=f"{name} 5")(recurrent), name=name)
    x = np.random.default_rng(1).standard_normal((2, 4, 2)).astype(np.float32)
    (found,) = exported(model)(**{f"{name} 3": x}).values()
    assert np.allclose(found, model(x), atol=1e-5)
