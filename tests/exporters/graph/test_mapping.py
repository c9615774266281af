"""A file's graph whose tensors stay in the file: the same model, and every damage is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.errors import ExportError
from exporters.graph import mapping, session_process
from exporters.graph.model import WeightedModel
from exporters.graph.serialization import write_directly
from exporters.graph.session import open_session


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((200, 300)).astype(np.float32)
    # An odd name and an odd number of bytes: nothing in the file is at a round address.
    mask = rng.integers(0, 2, 70_001).astype(np.uint8)
    small = rng.standard_normal(300).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["product"]),
            helper.make_node("Add", ["product", "small"], ["y"]),
            helper.make_node("Identity", ["mask."], ["z"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 200])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 300]),
            helper.make_tensor_value_info("z", TensorProto.UINT8, [70_001]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    write_directly(WeightedModel(model, {"mask.": mask, "weight": weight, "small": small}), path)
    return path


def test_only_small_tensors_are_read_and_the_model_is_the_same(file):
    message = mapping.read_without_tensors(file)
    tensors = {tensor.name: tensor for tensor in message.graph.initializer}
    assert message.ByteSize() < 4096
    assert tensors["small"].raw_data
    assert not tensors["weight"].raw_data
    onnx.load_external_data_for_model(message, str(file.parent))
    found = {t.name: onnx.numpy_helper.to_array(t) for t in message.graph.initializer}
    whole = onnx.load(file)
    for tensor in whole.graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], onnx.numpy_helper.to_array(tensor))
    del message.graph.initializer[:], whole.graph.initializer[:]
    assert message == whole


def test_a_session_that_maps_the_tensors_computes_the_same(file):
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 200)).astype(np.float32)}
    message = mapping.read_without_tensors(file).SerializeToString()
    mapped = open_session(file, message=message, save_memory=True).run(None, feeds)
    plain = open_session(file).run(None, feeds)
    np.testing.assert_allclose(mapped[0], plain[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mapped[1], plain[1])


def test_the_process_maps_a_large_file(file, monkeypatch):
    monkeypatch.setattr(session_process, "_MAPPED", 1000)
    sent = []
    child = session_process.SessionProcess()
    send = child._send
    monkeypatch.setattr(
        child, "_send", lambda request, what: (sent.append(request), send(request, what))[1]
    )
    try:
        assert child.load(file) == ["y", "z"]
        found = child.run({"x": np.ones((1, 200), np.float32)}, "running")
    finally:
        child.stop()
    assert 0 < len(sent[0][2]) < 4096
    expected = open_session(file).run(["y"], {"x": np.ones((1, 200), np.float32)})[0]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_a_large_file_takes_little_memory_of_the_process_that_runs_it(tmp_path, monkeypatch):
    """No copy of the weights stays there, as with a fused batch-norm, and no page of them."""
    width = 4096
    rng = np.random.default_rng(0)
    weights = {"kernel": rng.standard_normal((width, width, 1, 1), np.float32)}
    weights |= {name: rng.uniform(1, 2, width).astype(np.float32) for name in "abcd"}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["product"]),
            helper.make_node("BatchNormalization", ["product", *"abcd"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    write_directly(WeightedModel(model, weights), path)
    size = path.stat().st_size
    feeds = {"x": rng.standard_normal((2, width, 1, 1)).astype(np.float32)}
    monkeypatch.setattr(session_process, "_LARGE", size)
    child = session_process.SessionProcess()
    try:
        child.load(path)
        found = child.run(feeds, "running")[0]
        again = child.run(feeds, "running")[0]
        pages = read_memory(child._process.pid)
    finally:
        child.stop()
    assert pages["file"] == 0
    assert pages["anonymous"] < size / 2 + 40e6
    expected = open_session(path).run(None, feeds)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(again, found)


def read_memory(pid: int) -> dict[str, int]:
    """Return the bytes of a process's resident pages: of the file model.onnx, and of no file."""
    pages = {"file": 0, "anonymous": 0}
    is_model = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, *values = line.split()
        if not key.endswith(":"):
            is_model = line.endswith("model.onnx")
        elif key == "Rss:" and is_model:
            pages["file"] += int(values[0]) * 1024
        elif key == "Anonymous:":
            pages["anonymous"] += int(values[0]) * 1024
    return pages


@pytest.mark.parametrize("cut", [1, 100, 100_000])
def test_a_file_that_ends_too_early_is_no_model(file, cut):
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(ExportError, match="not a valid ONNX file"):
        mapping.read_without_tensors(file)


def test_bytes_after_the_model_are_no_model(file):
    file.write_bytes(file.read_bytes() + b"\xff\xff")
    with pytest.raises(ExportError, match="not a valid ONNX file"):
        mapping.read_without_tensors(file)
