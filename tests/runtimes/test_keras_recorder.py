"""What the recorder uses of Keras and TensorFlow and neither promises to keep."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from keras import layers
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import execute
from tensorflow.python.framework import op_callbacks

from parity.runtimes.keras import graphs
from parity.runtimes.keras.doors import (
    BACKEND_FUNCTIONS,
    NUMPY_FUNCTIONS,
    SCOPE_CLASSES,
    find_functions,
    require_doors,
)
from parity.runtimes.keras.recorder import Recorder

pytestmark = pytest.mark.framework


def watch(function):
    """What TensorFlow's op callbacks are told while a function runs."""
    seen = []

    def callback(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        seen.append((op_type, inputs, attrs, outputs, graph))

    op_callbacks.add_op_callback(callback)
    try:
        result = function()
    finally:
        op_callbacks.remove_op_callback(callback)
    return seen, result


def names(seen):
    return [name.decode() if isinstance(name, bytes) else name for name, *_ in seen]


def test_op_callbacks_see_every_eager_operation_with_the_tensors_that_python_has():
    x = tf.constant([[1.0, 2.0]])
    seen, result = watch(lambda: tf.nn.relu(x) + 1.0)
    assert names(seen) == ["Relu", "AddV2"]
    (_, inputs, attrs, outputs, graph), (_, more, _, last, _) = seen
    assert inputs[0] is x
    assert more[0] is outputs[0]
    assert last[0] is result
    assert dict(zip(attrs[::2], attrs[1::2], strict=True))
    assert graph is None


def test_op_callbacks_see_the_calls_of_compiled_functions_as_one():
    function = tf.function(lambda x: tf.nn.relu(x) * 2.0)
    x = tf.constant([1.0])
    function(x)
    seen, _ = watch(lambda: function(x))
    assert len(seen) == 1
    assert names(seen)[0].startswith("__inference_")


def test_a_kernel_is_read_by_an_operation_of_its_own():
    dense = layers.Dense(2)
    dense.build((None, 3))
    seen, _ = watch(lambda: dense(np.ones((1, 3), np.float32)))
    reads = [entry for entry in seen if names([entry]) == ["ReadVariableOp"]]
    handles = [id(variable._value.handle) for variable in dense.variables]
    assert [id(inputs[0]) for _, inputs, *_ in reads] == handles


def test_tensors_keep_attributes():
    x = tf.constant(1.0)
    x._parity_mark = 3
    assert x._parity_mark == 3


def test_every_operation_goes_through_two_functions(monkeypatch):
    """They are looked up in their modules at each call: so what they return can be replaced."""
    called = []
    fast = pywrap_tfe.TFE_Py_FastPathExecute
    slow = execute.execute

    def count_fast(*args):
        called.append(args[1])
        return fast(*args)

    def count_slow(op_name, *args, **kwargs):
        called.append(op_name)
        return slow(op_name, *args, **kwargs)

    monkeypatch.setattr(pywrap_tfe, "TFE_Py_FastPathExecute", count_fast)
    monkeypatch.setattr(execute, "execute", count_slow)
    function = tf.function(lambda x: x * 2.0)
    function(tf.constant([1.0]))
    called.clear()
    tf.nn.relu(tf.constant([1.0]))
    tf.concat([tf.constant([1.0]), tf.constant([2.0])], 0)
    function(tf.constant([1.0]))
    assert called[:2] == ["Relu", "ConcatV2"]
    assert called[2].startswith("__inference_")


def test_every_door_is_where_it_was():
    doors = require_doors()
    assert list(inspect.signature(doors.operation.__init__).parameters) == ["self", "name"]
    assert "node" in doors.function._run_through_graph.__code__.co_varnames
    found = {name for owner, name in find_functions() if owner is doors.nn}
    assert found == set(BACKEND_FUNCTIONS)
    found = {name for owner, name in find_functions() if owner is doors.numpy}
    assert found == set(NUMPY_FUNCTIONS)
    for name in SCOPE_CLASSES:
        assert hasattr(getattr(keras.layers, name), "call")
    assert hasattr(doors.tf_function, "python_function")
    assert {"_value", "_dtype"} <= set(vars(layers.Dense(1, name="d").add_weight(shape=(1,))))
    assert layers.Dense(1)._dtype_policy.name == "float32"


def test_the_arguments_of_wrapped_functions_have_these_names():
    doors = require_doors()

    def parameters(name, owner=doors.nn):
        return list(inspect.signature(getattr(owner, name)).parameters)

    window = ["inputs", "kernel", "strides", "padding", "data_format", "dilation_rate"]
    assert parameters("conv") == parameters("depthwise_conv") == window
    assert set(window) < set(parameters("conv_transpose"))
    assert parameters("max_pool")[:4] == ["inputs", "pool_size", "strides", "padding"]
    assert parameters("average_pool")[:4] == ["inputs", "pool_size", "strides", "padding"]
    assert parameters("gelu") == ["x", "approximate"]
    assert parameters("leaky_relu") == ["x", "negative_slope"]
    assert parameters("dot_product_attention")[:7] == [
        "query", "key", "value", "bias", "mask", "scale", "is_causal",
    ]  # fmt: skip
    assert parameters("take", doors.numpy) == ["x", "indices", "axis"]
    assert parameters("einsum", doors.numpy)[:2] == ["subscripts", "operands"]
    assert parameters("clip", doors.numpy) == ["x", "x_min", "x_max"]
    assert parameters("static_call", doors.activations.ReLU) == [
        "x", "negative_slope", "max_value", "threshold",
    ]  # fmt: skip


def test_a_layer_is_called_through_both_patched_methods():
    doors = require_doors()
    assert issubclass(doors.layer, doors.operation)
    assert keras.Model.__call__ is doors.layer.__call__
    assert doors.layer.__call__ is not doors.operation.__call__


def run(model, x):
    found = Recorder(model, observe=True)
    _, tensor = found.add_input(0, tf.constant(x))
    found.run(model, [tensor], {})
    return found.events


def test_nothing_is_left_patched():
    doors = require_doors()
    before = [
        inspect.getattr_static(owner, name)
        for owner, name in [*find_functions(), (doors.layer, "__call__"),
                            (doors.operation, "__call__"), (doors.tf_function, "__call__")]
    ]  # fmt: skip
    fast, slow = pywrap_tfe.TFE_Py_FastPathExecute, execute.execute

    class Fails(keras.Model):
        def call(self, x):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(Fails(), np.ones((1, 2), np.float32))
    assert before == [
        inspect.getattr_static(owner, name)
        for owner, name in [*find_functions(), (doors.layer, "__call__"),
                            (doors.operation, "__call__"), (doors.tf_function, "__call__")]
    ]  # fmt: skip
    assert (fast, slow) == (pywrap_tfe.TFE_Py_FastPathExecute, execute.execute)
    assert not watch(lambda: None)[0]


def test_a_state_that_leaves_a_layer_gets_an_id():
    """What a layer that is one operation keeps, and another reads, is an output of its own."""

    class Keeps(layers.Layer):
        def call(self, x):
            self.kept = x * 2.0
            return x + 1.0

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.keeps = Keeps()
            self.around = tf.function(self.keeps.call)

        def call(self, x):
            y = self.around(x)
            return y * self.keeps.kept

    model, x = Net(), np.ones((1, 4), np.float32)
    found = Recorder(model, observe=True, reads_functions=False, runs_copy=True)
    _, tensor = found.add_input(0, tf.constant(x))
    found.run(model, [tensor], {})
    assert [event.name for event in found.events] == ["tf.function", "state", "Mul"]
    assert [operand.id for operand in found.events[2].operands] == ["1.0", "2.0"]


def test_the_values_of_a_compiled_function_are_not_kept_when_it_is_built():
    """TensorFlow makes constants of the weights of a layer that is built while it compiles."""

    class Builds(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)
            self.inner = tf.function(self.compute)

        def compute(self, x):
            return self.dense(x)

        def call(self, x):
            return self.inner(x)

    model, inputs = Builds(), {"x": np.ones((2, 4), np.float32)}
    graphs.record(model, inputs, graphs.describe_inputs(model))
    before = np.asarray(model(inputs["x"], training=False))
    model.dense.kernel.assign(model.dense.kernel * 2)
    after = np.asarray(model(inputs["x"], training=False))
    np.testing.assert_allclose(after, before * 2, rtol=1e-6)
