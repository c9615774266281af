"""What an ONNX graph is asked: the weights of a node, other batch sizes, the provider it is on."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from exporters.graph import WeightedModel
from parity.errors import ProviderFallbackError
from parity.runtimes.onnx import device as onnx_device
from parity.runtimes.onnx.node_weights import read_node_weights
from parity.runtimes.onnx.sessions import (
    SessionSettings,
    create_session,
    find_batch_problems,
    run_in_chunks,
)

pytestmark = pytest.mark.framework

KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.arange(3, dtype=np.float32)


def model(nodes, constants, *, batch="batch", features=4, outputs=3):
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, size])
        for name, size in (("input", features), ("logits", outputs))
    ]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return WeightedModel(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), {}
    )


def gemm():
    node = helper.make_node("Gemm", ["input", "w", "b"], ["logits"], transB=1)
    return model([node], {"w": KERNEL, "b": BIAS})


def matmul():
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Identity", ["sum"], ["logits"]),
    ]
    return model(nodes, {"w": np.ascontiguousarray(KERNEL.T), "b": BIAS})


@pytest.mark.parametrize("make", [gemm, matmul])
def test_the_weights_of_a_dense_layer(make):
    held = read_node_weights(make(), "logits", "dense")
    assert {role: weight.name for role, weight in held.items()} == {"kernel": "w", "bias": "b"}
    np.testing.assert_array_equal(held["kernel"].value, KERNEL)
    np.testing.assert_array_equal(held["bias"].value, BIAS)


def test_weights_that_are_kept_beside_the_graph():
    made = gemm()
    kernel, bias = made.skeleton.graph.initializer
    del made.skeleton.graph.initializer[:]
    made.skeleton.graph.initializer.append(bias)
    beside = WeightedModel(made.skeleton, {"w": numpy_helper.to_array(kernel)})
    np.testing.assert_array_equal(
        read_node_weights(beside, "logits", "dense")["kernel"].value, KERNEL
    )


def test_a_layer_of_another_operator_holds_nothing_that_is_known():
    assert read_node_weights(gemm(), "logits", "conv") == {}
    assert read_node_weights(gemm(), "nowhere", "dense") == {}
    assert read_node_weights(gemm(), "logits", "relu") == {}


def frozen(count):
    """The batch is in the input's shape."""
    return create_session(model(gemm().skeleton.graph.node, {"w": KERNEL, "b": BIAS}, batch=count),
                   SessionSettings())[0]  # fmt: skip


def mixed():
    """A mean over the batch: it takes any number of images, and none by itself."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["input", "mean"], ["centred"]),
        helper.make_node("Gemm", ["centred", "w", "b"], ["logits"], transB=1),
    ]
    return create_session(model(nodes, {"w": KERNEL, "b": BIAS}), SessionSettings())[0]


DATA = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def test_a_dynamic_batch_takes_any():
    assert (
        find_batch_problems(create_session(gemm(), SessionSettings())[0], "logits", DATA, (1, 2, 3))
        == []
    )


def test_a_frozen_batch_is_told():
    told = find_batch_problems(frozen(1), "logits", DATA, (1, 2, 3))
    assert [line.partition(":")[0] for line in told] == ["N=2", "N=3"]


def test_samples_that_depend_on_one_another_are_told():
    (first, second) = find_batch_problems(mixed(), "logits", DATA, (1, 2, 3))
    assert first == "N=2: the first image gives other values than at N=1"
    assert second.startswith("N=3")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_frozen_graph_is_run_some_at_a_time(count):
    (found,) = run_in_chunks(frozen(count), ["logits"], {"input": DATA}, count)
    np.testing.assert_allclose(found, DATA @ KERNEL.T + BIAS, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    onnx_device.CUDA in onnxruntime.get_available_providers(), reason="the provider is there"
)
def test_a_provider_that_is_not_there_is_a_fallback_by_the_sessions_own_word():
    """A CPU build makes the session all the same, and only its providers tell."""
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        made = onnx_device.create_probe_session("gpu", "float32")
    with pytest.raises(ProviderFallbackError, match="fell back to CPUExecutionProvider"):
        onnx_device.require_provider(made, "gpu", "float32")
