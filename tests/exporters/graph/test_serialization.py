"""ONNX files: the streamed message, external weights, and what is left after a failure."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import ExportError
from exporters.graph import (
    add_metadata,
    atomic_path,
    inject,
    to_bytes,
    write,
)


def test_the_streamed_file_is_the_message(structure, weights, tmp_path):
    model = inject(structure, weights)
    add_metadata(model.skeleton, {"model": "test", "other": "1"})
    add_metadata(model.skeleton, {"model": "again"})
    write(model, tmp_path / "a.onnx")
    read = onnx.load(tmp_path / "a.onnx")
    assert read == model.proto()
    assert onnx.load_from_string(to_bytes(model)) == read
    assert {item.key: item.value for item in read.metadata_props} == {
        "model": "again",
        "other": "1",
    }
    write(model.proto(), tmp_path / "b.onnx")
    assert onnx.load(tmp_path / "b.onnx") == read


def test_large_models_have_their_weights_beside_them(structure, weights, tmp_path, monkeypatch):
    model = inject(structure, weights)
    whole = model.proto()
    monkeypatch.setattr("exporters.graph.model._LARGEST_MESSAGE", 100)
    write(model, tmp_path / "a.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    onnx.checker.check_model(str(tmp_path / "a.onnx"))
    read = onnx.load(tmp_path / "a.onnx")
    for ours, theirs in zip(whole.graph.initializer, read.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs))
    with pytest.raises(ExportError, match="larger than 2 GB"):
        model.proto()


def test_a_foreign_file_with_the_name_of_the_weights_is_not_overwritten(
    structure, weights, tmp_path, monkeypatch
):
    model = inject(structure, weights)
    monkeypatch.setattr("exporters.graph.model._LARGEST_MESSAGE", 100)
    data = tmp_path / "a.onnx.data"
    data.write_text("a user's own")
    expected = f"{data}: is not overwritten: it is not the weights of a.onnx"
    # There is no model; a file that is no model; a model whose weights are elsewhere.
    for step in ("none", "text", "other"):
        if step == "text":
            (tmp_path / "a.onnx").write_text("no model")
        if step == "other":
            write(model, tmp_path / "b.onnx")
            (tmp_path / "b.onnx").rename(tmp_path / "a.onnx")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ExportError) as raised:
            write(model, tmp_path / "a.onnx")
        assert expected in str(raised.value)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("prefix", ["", "./"])
def test_the_weights_of_the_replaced_model_are_replaced(
    structure, weights, tmp_path, monkeypatch, prefix
):
    model = inject(structure, weights)
    monkeypatch.setattr("exporters.graph.model._LARGEST_MESSAGE", 100)
    path = tmp_path / "a.onnx"
    write(model, path)
    if prefix:
        # As other writers may name the same file.
        read = onnx.load(path, load_external_data=False)
        for tensor in read.graph.initializer:
            tensor.external_data[0].value = prefix + tensor.external_data[0].value
        path.write_bytes(read.SerializeToString())
    (tmp_path / "a.onnx.data").write_bytes(b"old")
    write(model, path)
    onnx.checker.check_model(str(path))
    assert (tmp_path / "a.onnx.data").stat().st_size > 3


def test_no_folder_is_one_line(structure, weights, tmp_path):
    with pytest.raises(ExportError, match="cannot be written"):
        write(inject(structure, weights), tmp_path / "missing" / "a.onnx")


def test_a_file_in_the_way_of_the_folder_is_one_line(structure, weights, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write(inject(structure, weights), tmp_path / "file" / "a.onnx")


def test_a_folder_in_the_way_of_the_file_is_one_line(structure, weights, tmp_path):
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(ExportError, match="cannot be written"):
        write(inject(structure, weights), tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_a_link_stays_a_link(structure, weights, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "a.onnx").symlink_to("far/b.onnx")
    for _ in range(2):
        write(inject(structure, weights), tmp_path / "a.onnx")
        assert (tmp_path / "a.onnx").is_symlink()
        onnx.load(tmp_path / "far" / "b.onnx")
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["b.onnx"]


def test_what_is_no_plain_file_is_refused_and_stays(structure, weights, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("null", "stdout"):
        # Links, so that a fault cannot replace the machine's own.
        (tmp_path / name).symlink_to(f"/dev/{name}")
    for path in (tmp_path / "fifo", tmp_path / "null", tmp_path / "stdout"):
        with pytest.raises(ExportError, match=f"{path}: .*no plain file"):
            write(inject(structure, weights), path)
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "null").is_symlink()
    assert (tmp_path / "stdout").is_symlink()


def test_a_file_that_is_printed_to_is_not_replaced(tmp_path):
    code = (
        "import sys, onnx\nfrom exporters.graph import write\n"
        "print('before', flush=True)\nwrite(onnx.ModelProto(), sys.argv[1])\n"
    )
    (tmp_path / "link").symlink_to("/dev/stdout")
    with (tmp_path / "out").open("wb") as out:
        command = [sys.executable, "-c", code, str(tmp_path / "link")]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
    assert f"ExportError: {tmp_path}/link: cannot be written (it is no plain" in done.stderr
    assert (tmp_path / "out").read_text() == "before\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_line(structure, weights, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ExportError, match="Permission denied"):
        write(inject(structure, weights), tmp_path / "a.onnx")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    structure, weights, tmp_path, monkeypatch
):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")

    def full(model, file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("exporters.graph.serialization._stream", full)
    with pytest.raises(ExportError, match="No space left on device"):
        write(inject(structure, weights), path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    assert path.read_bytes() == b"old"


def test_an_interrupt_leaves_nothing(tmp_path: Path):
    def interrupted() -> None:
        with atomic_path(tmp_path / "a.onnx") as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("several", [True, False], ids=["writev", "write"])
@pytest.mark.parametrize("size", [600_000, 5_000_000])
def test_a_file_that_cannot_be_written_whole_is_an_error(tmp_path, monkeypatch, several, size):
    """A disk that is full in the middle: the last call writes less than it is given, or fails."""
    resource = pytest.importorskip("resource")
    if not several:
        monkeypatch.delattr(os, "writev")
    value = numpy_helper.from_array(np.zeros(size, np.uint8), "w")
    node = helper.make_node("Identity", ["w"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, [size])
    graph = helper.make_graph([node], "g", [], [output], [value])
    model = helper.make_model(graph)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        with pytest.raises(ExportError, match="cannot be written"):
            write(model, tmp_path / "a.onnx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
    write(model, tmp_path / "a.onnx")
    assert onnx.load(tmp_path / "a.onnx") == model
