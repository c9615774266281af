"""The process that holds a session: what is asked of it while it closes one, and after it died."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.errors import ExportError
from exporters.graph import session_process
from exporters.graph.session_process import SessionProcess, get_shared_process


@pytest.fixture
def file(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "neg.onnx")
    return tmp_path / "neg.onnx"


@pytest.fixture
def process():
    process = SessionProcess()
    yield process
    process.stop()


def test_a_session_that_is_being_closed_gives_no_answer_of_another_request(process, file):
    x = np.ones((1, 2), np.float32)
    for wait in (False, False, True, False):
        assert process.load(file) == ["y"]
        process.release(wait=wait)
    process.release(wait=False)
    process.settle()
    assert process.load(file) == ["y"]
    assert (process.run({"x": x}, "running")[0] == -x).all()


def test_a_process_that_dies_while_it_closes_is_no_failure_of_the_next_export(
    file, process, monkeypatch
):
    monkeypatch.setattr(session_process, "_shared", process)
    process.load(file)
    process.release(wait=False)
    process._process.kill()
    process._process.wait()
    other = get_shared_process()
    assert other is not process
    assert other.load(file) == ["y"]
    other.stop()


def test_a_crash_says_what_was_done(process, file):
    process.load(file)
    process._process.kill()
    process._process.wait()
    with pytest.raises(ExportError, match=r"crashed while loading the file \(SIGKILL\)"):
        process.load(file)
