"""Keras models of many kinds to ONNX; each export is verified by the exporter itself too."""

from __future__ import annotations

import functools
import gc
import subprocess
import sys
import weakref
from collections import Counter

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.framework

keras_onnx = pytest.importorskip("exporters.keras_onnx")

import keras
import tensorflow as tf
from keras import layers

import exporters
from exporters.errors import ExportError
from exporters.graph import Structure, add_outputs, inject
from exporters.graph.framework_runs import perturb
from exporters.graph.session import open_session
from exporters.keras import calls, function
from exporters.keras.arguments import read_arguments


def grouped() -> keras.Model:
    """Strided grouped convolutions with a residual, as in ResNeXt."""
    image = keras.Input((12, 12, 3), name="image")
    x = layers.ZeroPadding2D(1, name="stem_pad")(image)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name="stem_bn")(x)
    stem = layers.ReLU(name="stem_relu")(x)
    x = layers.ZeroPadding2D(1, name="block_pad")(stem)
    x = layers.Conv2D(8, 3, groups=4, use_bias=False, name="block_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name="block_bn")(x)
    x = layers.Add(name="block_add")([stem, x])
    x = layers.ReLU(name="block_out")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(5, name="predictions")(x), name="grouped")


def separable() -> keras.Model:
    image = keras.Input((12, 12, 3))
    x = layers.SeparableConv2D(8, 3, padding="same")(image)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Activation("swish")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)
    x = layers.AveragePooling2D(2)(layers.PReLU()(x))
    return keras.Model(image, layers.Dense(5, activation="softmax")(layers.Flatten()(x)))


def mlp() -> keras.Model:
    stack = [layers.Dense(20, activation="gelu"), layers.Dropout(0.5)]
    return keras.Sequential(
        [keras.Input((10,)), *stack, layers.BatchNormalization(), layers.Dense(3)]
    )


def several() -> keras.Model:
    picture, facts = keras.Input((8, 8, 3), name="picture"), keras.Input((4,), name="facts")
    x = layers.Flatten()(layers.Conv2D(4, 3)(picture))
    x = layers.Concatenate()([x, facts])
    outputs = {"p": layers.Dense(3, name="p")(x), "q": layers.Dense(2, name="q")(x)}
    return keras.Model({"picture": picture, "facts": facts}, outputs)


def transformer() -> keras.Model:
    tokens = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 16)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    x = x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
    return keras.Model(tokens, layers.GlobalAveragePooling1D()(x))


def recurrent() -> keras.Model:
    series = keras.Input((6, 5))
    return keras.Model(series, layers.Dense(2)(layers.LSTM(8)(series)))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = layers.Conv2D(4, 3), layers.Dense(2)

    def call(self, x):
        return self.head(keras.ops.mean(self.conv(x), axis=(1, 2)))


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3), np.float32))
    return model


def nested() -> keras.Model:
    inner = grouped()
    image = keras.Input((12, 12, 3))
    return keras.Model(image, layers.Dense(2)(inner(image)), name="outer")


BUILDERS = [grouped, separable, mlp, several, transformer, recurrent, subclassed, nested]


def shaken(model: keras.Model) -> keras.Model:
    """Give every variable its own values: a default batch-norm does nothing."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "float" in variable.dtype:
            offset = 0.5 if "variance" in variable.path else 0.1
            noise = rng.uniform(-0.3, 0.3, variable.shape)
            variable.assign(np.asarray(variable) * (1 + noise) + offset * np.abs(noise))
    return model


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_any_model_is_exported_and_runs_at_batch_5(build, tmp_path):
    path = tmp_path / "a.onnx"
    done = keras_onnx.export(shaken(build()), path)
    assert {check.batch for check in done.checks} >= {1, 2, 3}
    assert set(done.seconds) == {"trace", "inject", "write", "verify"}
    session = open_session(path)
    feeds = {}
    for value in session.get_inputs():
        assert value.shape[0] == "batch"
        kind = np.int32 if "int32" in value.type else np.float32
        feeds[value.name] = np.ones((5, *value.shape[1:]), kind)
    assert all(len(array) == 5 for array in session.run(None, feeds))


def test_grouped_convolutions_stay_what_they_are_and_no_transpose_is_left(tmp_path):
    model = shaken(grouped())
    path = tmp_path / "a.onnx"
    keras_onnx.export(
        model, path, inputs=["input"], outputs=["logits"], channels_first=True, metadata={"m": "1"}
    )
    read = onnx.load(path)
    assert operators(read) == {
        "Conv": 2, "BatchNormalization": 2, "Relu": 2, "Add": 2, "ReduceMean": 1, "MatMul": 1
    }  # fmt: skip
    groups = [a.i for n in read.graph.node for a in n.attribute if a.name == "group"]
    assert sorted(groups) == [1, 4]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in read.graph.initializer}
    kernel = keras_onnx.weights(model)["block_conv/kernel"]
    np.testing.assert_array_equal(stored["block_conv/kernel"], kernel.transpose(3, 2, 0, 1))
    variance = keras_onnx.weights(model)["block_bn/moving_variance"]
    np.testing.assert_array_equal(stored["block_bn/moving_variance"], variance)
    properties = {item.key: item.value for item in read.metadata_props}
    assert properties["m"] == "1"
    assert properties["framework"].startswith("keras ")
    assert not tf.config.functions_run_eagerly()


TAPS = {
    "stem": "stem_relu",
    "conv": "block_conv",
    "padded": "block_pad",
    "sum": "block_add",
    "same": "block_out@input",
    "input.tap": "stem_pad@input",
    "pool": "pool",
    "logits": "predictions",
}


@pytest.mark.parametrize("channels_first", [False, True])
def test_taps_are_the_layers_outputs_and_cost_nothing(channels_first):
    model = shaken(grouped())
    options = {"outputs": ["logits"], "channels_first": channels_first}
    plain = keras_onnx.trace(model, **options)
    structure = keras_onnx.trace(model, taps=TAPS, **options)
    weights = keras_onnx.weights(model)
    deployed = inject(structure, weights).proto()
    assert operators(deployed) == operators(inject(plain, weights).proto())

    image = np.random.default_rng(0).standard_normal((2, 12, 12, 3)).astype(np.float32)
    names = [name for name in TAPS if name != "logits"]
    asked = inject(structure, weights, outputs=names).proto()
    session = onnxruntime_session(asked)
    fed = image.transpose(0, 3, 1, 2) if channels_first else image
    found = dict(zip(["logits", *names], session.run(None, {"image": fed}), strict=True))
    at = {name: model.get_layer(place.split("@")[0]) for name, place in TAPS.items()}
    expected = keras.Model(
        model.inputs[0],
        {n: layer.input if "@" in TAPS[n] else layer.output for n, layer in at.items()},
    )(image, training=False)
    for name, tensor in expected.items():
        array = np.asarray(tensor)
        if channels_first and array.ndim == 4:
            array = array.transpose(0, 3, 1, 2)
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    assert found["sum"].shape == found["same"].shape

    if channels_first:
        later = add_outputs(deployed, ["stem", "conv", "sum", "pool"])
        values = onnxruntime_session(later).run(None, {"image": fed})[1:]
        for name, array in zip(["stem", "conv", "sum", "pool"], values, strict=True):
            # Another set of outputs lets ONNX Runtime fuse other operators.
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def onnxruntime_session(model: onnx.ModelProto):  # type: ignore[no-untyped-def]
    import onnxruntime

    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def test_a_structure_takes_other_weights(tmp_path):
    structure_path = tmp_path / "a.structure"
    keras_onnx.trace(grouped(), channels_first=True).save(structure_path)
    structure = Structure.load(structure_path)
    done = keras_onnx.export(
        shaken(grouped()), tmp_path / "a.onnx", structure=structure, channels_first=True
    )
    assert "trace" not in done.seconds
    assert all(check.passed for check in done.checks)


def test_shared_layers_are_tapped_by_call():
    image = keras.Input((8, 8, 3), name="image")
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    model = shaken(keras.Model(image, conv(layers.ReLU(name="relu")(conv(image)))))
    structure = keras_onnx.trace(model, taps={"first": "conv", "second": "conv#1"})
    assert structure.taps == ("first", "second")
    with pytest.raises(ExportError, match=r"third: the model never called 'conv#2'"):
        keras_onnx.trace(model, taps={"third": "conv#2"})


def test_layers_of_nested_models_are_tapped_by_path():
    structure = keras_onnx.trace(nested(), taps={"inside": "grouped/stem_relu"})
    assert structure.taps == ("inside",)


def test_an_unknown_layer_is_named_with_the_closest():
    with pytest.raises(ExportError, match=r"no layer 'stem_rel'; the closest are stem_relu"):
        keras_onnx.trace(grouped(), taps={"t": "stem_rel"})


def test_the_model_is_left_as_it_was():
    model = grouped()
    before = set(model.get_layer("stem_relu").__dict__)
    keras_onnx.trace(model, taps={"t": "stem_relu"})
    assert set(model.get_layer("stem_relu").__dict__) == before
    with pytest.raises(ExportError):
        keras_onnx.trace(model, taps={"t": "stem_relu", "u": "missing"})
    assert set(model.get_layer("stem_relu").__dict__) == before


def odd() -> keras.Model:
    x = keras.Input((4,))
    half = layers.Lambda(
        lambda t: tf.math.betainc(t * 0 + 1.0, t * 0 + 1.0, tf.sigmoid(t)),
        name="odd",
        output_shape=(4,),
    )
    return keras.Model(x, half(x))


def test_a_tensor_that_no_layer_reads_any_more_is_freed():
    """Keras itself keeps every tensor of a functional model until its call ends."""
    alive = []

    class Watched(keras.layers.Layer):
        def call(self, x):
            gc.collect()
            alive.append(sum(tensor() is not None for tensor in made))
            result = x + 1.0
            made.append(weakref.ref(result))
            return result

    made = []
    inputs = keras.Input((4,))
    x = first = Watched()(inputs)
    for _ in range(4):
        x = Watched()(x)
    model = keras.Model(inputs, [x, keras.layers.Add()([x, first]), first])
    array = np.ones((2, 4), np.float32)
    expected = [np.asarray(y) for y in model(array)]
    alive.clear(), made.clear()
    with calls.short_lived_tensors():
        found = [np.asarray(y) for y in model(array)]
    assert alive == [0, 1, 2, 2, 2]  # what is read later, an output, and what is read now
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_aligned_array_becomes_a_tensor_without_a_copy():
    array = perturb(np.ones((64, 64), np.float32), seed=0)
    tensor = function._share(array)
    assert np.asarray(tensor).ctypes.data == array.ctypes.data
    odd = np.ones(65, np.float32)[1:]
    np.testing.assert_array_equal(np.asarray(function._share(odd)), odd)


def test_perturbed_weights_are_made_one_after_the_other(monkeypatch):
    """A call with all of them at once holds a second copy of the model."""
    made, alive = [], []
    make = function._make_perturbed

    def watched(*args):
        gc.collect()
        alive.append(sum(tensor() is not None for tensor in made))
        value = make(*args)
        made.append(weakref.ref(value))
        return value

    monkeypatch.setattr(function, "_make_perturbed", watched)
    shared = layers.Dense(4, name="shared")
    x = inputs = keras.Input((4,))
    for _ in range(4):
        x = shared(layers.Dense(4)(x))
    model = shaken(keras.Model(inputs, x))
    array = np.ones((2, 4), np.float32)
    run = function.to_function(model, read_arguments(model, None, None))
    (found,) = run([array], seed=3)
    assert max(alive) <= 2
    changed = [
        perturb(np.asarray(v.value), seed=3, index=i, roundoff=0.0)
        for i, v in enumerate(model.variables)
    ]
    with keras.StatelessScope(zip(model.variables, changed, strict=True)):
        expected = np.asarray(model(array))
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(found, run([array])[0])


def test_a_perturbed_weight_that_a_graph_reads_is_a_tensor_outside_of_it():
    ones = np.ones(4, np.float16)  # of another type than those that share an array's memory
    variable = keras.Variable(ones, dtype="float16")
    make = functools.partial(function._make_perturbed, ones, 1, 0, 0.0)
    with function._LazyScope({id(variable): make}):
        with tf.__internal__.FuncGraph("graph").as_default():
            value = variable.value
        assert variable.value is value
    assert isinstance(value, tf.__internal__.EagerTensor)
    assert np.asarray(variable.value).tolist() == [1, 1, 1, 1]


def test_an_operator_without_a_conversion_is_named_and_no_file_is_left(tmp_path):
    with pytest.raises(
        ExportError, match=r"Betainc \(\S+/Betainc, layer odd, test_export.py:\d+\); ONNX"
    ):
        keras_onnx.export(odd(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [keras_onnx.export, exporters.export])
def test_a_name_that_says_another_format_is_refused(export, tmp_path):
    with pytest.raises(ExportError, match=r"ends in \.onnx.*found '\.keras'; give .*net\.onnx$"):
        export(mlp(), tmp_path / "net.keras")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_leaves_no_file(tmp_path):
    model = shaken(mlp())
    structure = keras_onnx.trace(model)
    next(n for n in structure.model.graph.node if n.op_type == "Erf").op_type = "Tanh"
    with pytest.raises(ExportError, match="computes something else: output at N=1"):
        keras_onnx.export(model, tmp_path / "a.onnx", structure=structure)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [17, 18, 22])
def test_opsets(opset, tmp_path):
    path = tmp_path / "a.onnx"
    done = keras_onnx.export(shaken(grouped()), path, opset=opset)
    assert done.opset == opset
    assert onnx.load(path).opset_import[0].version == opset


@pytest.mark.usefixtures("older_runtime")
def test_an_opset_that_onnx_runtime_does_not_know_is_one_line(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(ExportError, match=r"ONNX Runtime does not load it: [A-Z][^/]*$"):
        keras_onnx.export(shaken(grouped()), path)
    assert not path.exists()


def test_wrong_counts_of_names_are_refused():
    with pytest.raises(ExportError, match=r"1 inputs \(input\), 2 names"):
        keras_onnx.trace(mlp(), inputs=["a", "b"])
    with pytest.raises(ExportError, match=r"1 outputs \(\w+\), 2 names"):
        keras_onnx.trace(mlp(), outputs=["a", "b"])


def test_nothing_is_printed(tmp_path):
    code = f"""
from exporters import keras_onnx
from tests.exporters.keras.test_export import grouped
keras_onnx.export(grouped(), {str(tmp_path / "a.onnx")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
