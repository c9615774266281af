"""Structures, injection and files: no framework, ONNX Runtime only where marked."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters import onnx_graph
from exporters.errors import ExportError
from exporters.onnx_graph import Structure, add_metadata, add_outputs, inject, to_bytes, write


def expected(weights, x):
    shift = weights["beta"] - weights["mean"] / np.sqrt(weights["variance"])
    return x @ weights["kernel"].T + shift


def test_injected_model_computes_and_is_folded(structure, weights):
    model = inject(structure, weights).proto()
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add", "Relu"]
    x = np.ones((2, 3), np.float32)
    (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(y, np.maximum(expected(weights, x), 0), rtol=1e-6)


def test_a_rearranged_weight_keeps_its_name_and_bits(structure, weights):
    tensors = inject(structure, weights).tensors
    np.testing.assert_array_equal(tensors["kernel"], weights["kernel"].T)


def test_folding_rounds_once(structure, weights):
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    exact = wide["beta"] - wide["mean"] / np.sqrt(wide["variance"])
    np.testing.assert_array_equal(
        inject(structure, weights).tensors["shift"], exact.astype(np.float32)
    )


def test_taps_are_outputs_only_when_asked_for(structure, weights):
    plain = inject(structure, weights).proto()
    tapped = inject(structure, weights, outputs=["before"]).proto()
    assert [value.name for value in plain.graph.output] == ["y"]
    assert [value.name for value in tapped.graph.output] == ["y", "before"]
    later = add_outputs(plain, ["before"])
    onnx.checker.check_model(later, full_check=True)
    assert [value.name for value in later.graph.output] == ["y", "before"]
    assert [value.name for value in plain.graph.output] == ["y"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": None}, "1 weights are missing: kernel"),
        ({"other": np.zeros(1, np.float32)}, "not in the graph: other"),
        ({"beta": np.zeros(3, np.float32)}, r"beta: expected \(2,\) float32, found \(3,\) float32"),
        ({"beta": np.zeros(2)}, "found .* float64"),
    ],
)
def test_wrong_weights_are_named(structure, weights, change, message):
    changed = {k: v for k, v in {**weights, **change}.items() if v is not None}
    with pytest.raises(ExportError, match=message):
        inject(structure, changed)


def test_weights_that_the_graph_does_not_read_are_accepted(structure, weights):
    inject(structure, {**weights, "counter": np.zeros((), np.int64)})


def test_unknown_outputs_are_named(structure, weights):
    with pytest.raises(ExportError, match="no tap is called nowhere"):
        inject(structure, weights, outputs=["nowhere"])
    with pytest.raises(ExportError, match="no tensor nowhere"):
        add_outputs(inject(structure, weights).proto(), ["nowhere"])


def test_a_structure_survives_the_disk(structure, tmp_path):
    path = tmp_path / "a.structure"
    structure.save(path)
    first = path.read_bytes()
    structure.save(path)
    loaded = Structure.load(path)
    assert path.read_bytes() == first
    assert loaded.weights == structure.weights == {
        "kernel": (2, 3), "beta": (2,), "mean": (2,), "variance": (2,)
    }  # fmt: skip
    assert (loaded.inputs, loaded.outputs, loaded.taps, loaded.unused) == (
        structure.inputs,
        structure.outputs,
        structure.taps,
        structure.unused,
    )
    assert not loaded.model.metadata_props


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_what_is_no_structure_is_refused(structure, tmp_path, content):
    path = tmp_path / "a.structure"
    structure.save(path)
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(ExportError, match=r"not a saved structure"):
        Structure.load(path)
    with pytest.raises(ExportError, match="cannot be read"):
        Structure.load(tmp_path / "missing")


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
    monkeypatch.setattr(onnx_graph, "_LARGEST_FILE", 100)
    write(model, tmp_path / "a.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    onnx.checker.check_model(str(tmp_path / "a.onnx"))
    read = onnx.load(tmp_path / "a.onnx")
    for ours, theirs in zip(whole.graph.initializer, read.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs))
    with pytest.raises(ExportError, match="larger than 2 GB"):
        model.proto()


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
        "import sys, onnx\nfrom exporters.onnx_graph import write\n"
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

    monkeypatch.setattr(onnx_graph, "_stream", full)
    with pytest.raises(ExportError, match="No space left on device"):
        write(inject(structure, weights), path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    assert path.read_bytes() == b"old"


def test_an_interrupt_leaves_nothing(tmp_path: Path):
    def interrupted() -> None:
        with onnx_graph.staged(tmp_path / "a.onnx") as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
