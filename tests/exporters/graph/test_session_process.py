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


def test_answers_are_those_of_their_requests_whatever_is_read_first(process, file):
    process.start_loading(file)
    arrays = [np.full((rows, 2), rows, np.float32) for rows in (1, 2, 100_000, 3)]
    runs = [process.start_running({"x": array}, "running") for array in arrays]
    wrong = process.start_running({"nothing": arrays[0]}, "running")
    process.release(wait=False)
    closed = process.start_running({"x": arrays[0]}, "running")
    assert process.load(file) == ["y"]
    for array, run in zip(arrays[::-1], runs[::-1], strict=True):
        np.testing.assert_array_equal(run.result()[0], -array)
    for failed in (wrong, closed):
        for _ in range(2):
            with pytest.raises(ExportError):
                failed.result()


def test_large_answers_that_nobody_has_read_do_not_block_the_next_requests(process, tmp_path):
    """The child waits until they are read, so that it reads no request: they are read first."""
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "shape"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [20_000])],
        [helper.make_tensor("shape", TensorProto.INT64, [1], [20_000])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "wide.onnx")
    process.start_loading(tmp_path / "wide.onnx")
    # More requests than a pipe holds.
    runs = [process.start_running({"x": np.full(1, n, np.float32)}, "running") for n in range(500)]
    assert [run.result()[0][-1] for run in (runs[0], runs[-1])] == [0, 499]


def test_a_crash_is_that_of_every_request_that_was_sent(process, file):
    process._process.kill()
    process._process.wait()
    loading = process.start_loading(file)
    run = process.start_running({"x": np.ones((1, 2), np.float32)}, "running the file")
    with pytest.raises(ExportError, match="crashed while running the file"):
        run.result()
    with pytest.raises(ExportError, match="crashed while loading the file"):
        loading.result()


def test_a_process_whose_answer_was_read_in_part_is_not_used_again(process, file, monkeypatch):
    """An interrupt leaves the rest of the answer in the pipe."""

    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(process, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            process.load(file)
    assert not process.alive
