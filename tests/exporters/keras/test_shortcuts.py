"""What is left out of tf2onnx's work: the graph is the same, and what has changed is done anew."""

from __future__ import annotations

import contextlib
import gc

import numpy as np
import pytest

pytestmark = pytest.mark.framework

keras_onnx = pytest.importorskip("exporters.keras_onnx")

import keras
import tensorflow as tf
from keras import layers
from onnx import helper
from tf2onnx import tf_utils
from tf2onnx.graph import Graph

from exporters.keras import conversion, shortcuts
from tests.exporters.keras.test_export import grouped, mlp


def recurrent() -> keras.Model:
    """Graphs within a graph: a loop of tf2onnx."""
    cell = layers.SimpleRNNCell(4)
    return keras.Sequential([keras.Input((5, 3)), layers.RNN([cell, layers.SimpleRNNCell(2)])])


@pytest.mark.parametrize("build", [mlp, grouped, recurrent])
def test_the_graph_is_the_same_with_half_of_the_work(build, monkeypatch):
    model = build()
    calls = []
    reset = Graph.reset_nodes
    monkeypatch.setattr(
        Graph, "reset_nodes", lambda self, ops: (calls.append(self), reset(self, ops))[1]
    )
    found = keras_onnx.trace(model)
    few = len(calls)
    calls.clear()
    monkeypatch.setattr(conversion, "skip_repeated_work", contextlib.nullcontext)
    expected = keras_onnx.trace(model)
    assert 0 < few < len(calls) / 2
    assert [n.op_type for n in found.model.graph.node] == [
        n.op_type for n in expected.model.graph.node
    ]
    assert found.model.ByteSize() == pytest.approx(expected.model.ByteSize(), rel=0.01)


def test_a_graph_that_was_changed_is_indexed_anew():
    nodes = [helper.make_node("Relu", [a], [b], name=b) for a, b in ("xa", "ab", "bc")]
    placeholder = helper.make_node("Placeholder", [], ["x"], name="x")
    with shortcuts.skip_repeated_work():
        graph = Graph([placeholder, *nodes], {}, {}, opset=17, output_names=["c"])
        operations = list(graph.get_nodes())
        graph.reset_nodes(operations)
        before = graph._output_to_consumers
        graph.reset_nodes(list(operations))
        assert graph._output_to_consumers is before
        graph.get_node_by_name("b").input[0] = "x"  # not through the graph, which must notice
        graph.reset_nodes(operations)
        assert graph._output_to_consumers["x"] == {"a", "b"}
        assert not graph._output_to_consumers.get("a")
        graph.remove_node("a")
        graph.reset_nodes([op for op in operations if op.name != "a"])
        graph.make_node("Relu", ["x"], name="d", outputs=["d"])
        graph.reset_nodes([op for op in operations if op.name != "a"])  # without the new one
        assert "d" not in graph._nodes_by_name
        before = graph._output_to_consumers
        graph.parent_graph = Graph([], {}, {}, opset=17)
        graph.reset_nodes(graph.get_nodes())
        assert graph._output_to_consumers is not before
        assert graph.parent_graph._input_to_graph["x"]


def constants(graph: tf.Graph) -> list[str]:
    """Return the graph's outputs, of arithmetic on constants, sizes and an input."""
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        fixed = tf.compat.v1.placeholder(tf.float32, [5, 3], name="fixed")
        a = tf.constant([1.0, 2.0, 3.0])
        read = tf.reduce_sum(tf.exp(a) * 2.0)
        half = tf.cast(a, tf.bfloat16) + tf.cast(1.5, tf.bfloat16)
        words = tf.strings.join(["a", "b"])
        huge = tf.fill([1000, 1000], 0.5)
        rows = tf.range(tf.shape(x)[1], tf.shape(fixed)[0])
        random = tf.random.uniform([2])
        failing = tf.constant([1, 2]) // 0
        branch = tf.cond(tf.constant(True), lambda: tf.constant(1.0), lambda: tf.constant(2.0))
        part = tf.strided_slice(tf.shape(x), [0], [1], shrink_axis_mask=1)
        results = [
            x * read,
            tf.cast(half, tf.float32) + x,
            tf.identity(words),
            x + tf.reduce_sum(huge),
            tf.gather(x, rows),
            x[0, :2] + random,
            tf.gather(x, failing),
            x + branch,
            tf.range(part),
            tf.exp(a),  # an output of the graph, which stays as it is
        ]
        return [tf.identity(result, name=f"y{i}").name for i, result in enumerate(results)]


def test_constants_are_those_that_tf2onnx_finds():
    graph = tf.Graph()
    outputs = constants(graph)
    expected, expected_dtypes = tf_utils.compute_const_folding_using_tf(graph, None, outputs)
    found, found_dtypes = shortcuts._fold_constants(graph, None, outputs)
    assert len(expected) >= 5
    assert found.keys() == expected.keys()
    assert found_dtypes == expected_dtypes
    for name, array in found.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("is_enabled", [True, False])
def test_a_trace_leaves_the_collector_as_it_was(is_enabled):
    was_enabled = gc.isenabled()
    try:
        (gc.enable if is_enabled else gc.disable)()
        keras_onnx.trace(mlp())
        assert gc.isenabled() is is_enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
