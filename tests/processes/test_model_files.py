"""Model files told apart by suffix and content, from bytes alone: nothing is loaded."""

from __future__ import annotations

import os
import pickle
import zipfile

import pytest

from parity.errors import UsageError
from parity.processes import model_files
from parity.processes.model_files import (
    EXPORTED_PROGRAM,
    KERAS_ARCHIVE,
    KERAS_HDF5,
    ONNX,
    SAVED_MODEL_FOLDER,
    TORCHSCRIPT,
    WeightsAloneError,
    identify,
    is_checkpoint,
    is_path_like,
    require_file,
)

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """One file of every format, as the frameworks write their members."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "model.h5").write_bytes(HDF5)
    (tmp_path / "renamed.keras").write_bytes(HDF5)
    (tmp_path / "model.weights.h5").write_bytes(HDF5)
    (tmp_path / "model.safetensors").write_bytes(bytes(8))
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("text")
    (tmp_path / "text.h5").write_text("text")
    (tmp_path / "model.py").write_text("")
    (tmp_path / "model.txt").write_text("")
    make_zip(tmp_path / "model.keras", "metadata.json", "config.json", "model.weights.h5")
    make_zip(tmp_path / "other.keras", "metadata.json")
    make_zip(tmp_path / "script.pt", "script/data.pkl", "script/code/__torch__.py",
             "script/constants.pkl")  # fmt: skip
    make_zip(tmp_path / "program.pt2", "program/archive_format", "program/models/model.json")
    make_zip(tmp_path / "older.pt2", "serialized_exported_program.json", "version")
    make_zip(tmp_path / "state.pt", "state/data.pkl", "state/data/0", "state/version")
    make_zip(tmp_path / "state.pth", "state/data.pkl", "state/data/0", "state/version")
    make_zip(tmp_path / "other.pt", "readme")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "script.pt").read_bytes()[:-30])
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text("{}")
    (tmp_path / "plain").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.onnx", ONNX),
        ("model.keras", KERAS_ARCHIVE),
        ("model.h5", KERAS_HDF5),
        ("renamed.keras", KERAS_HDF5),
        ("saved", SAVED_MODEL_FOLDER),
        ("script.pt", TORCHSCRIPT),
        ("program.pt2", EXPORTED_PROGRAM),
        ("older.pt2", EXPORTED_PROGRAM),
    ],
)
def test_a_model_is_told_by_its_content(name, kind):
    assert identify(name) is kind
    assert kind.is_program == (kind in (SAVED_MODEL_FOLDER, TORCHSCRIPT, EXPORTED_PROGRAM))
    assert not is_checkpoint(name)


@pytest.mark.parametrize("name", ["state.pt", "state.pth", "old.pth", "model.weights.h5",
                                  "model.safetensors"])  # fmt: skip
def test_a_checkpoint_is_told_by_its_content(name):
    """A `.pt` may be a program or weights."""
    assert is_checkpoint(name)
    with pytest.raises(WeightsAloneError, match=f"{name}: holds weights and no model; give "
                                                f"file.py:NAME,weights={name}"):  # fmt: skip
        identify(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.onnx", "nowhere.onnx: no such file or folder"),
        ("model.onnx/inside.onnx", "no such file or folder"),
        ("empty.pt", "empty.pt: is empty"),
        ("text.pt", "text.pt: not a PyTorch file: no zip file and no pickle"),
        ("other.pt", "other.pt: not a PyTorch file: a zip file without a model"),
        ("cut.pt", "cut.pt: is damaged: a zip file without its end"),
        ("text.h5", "text.h5: not a Keras model: neither an HDF5 file nor a Keras archive"),
        ("other.keras", "other.keras: not a Keras model"),
        ("model.py", "model.py: name the model in it: model.py:NAME"),
        ("model.txt", "model.txt: expected a model file"),
        ("hub", "hub: is a transformers folder; write hf:hub"),
        ("plain", "plain: is a folder without saved_model.pb"),
        ("/dev/null", "/dev/null: expected a file or a SavedModel folder, found neither"),
    ],
)
def test_a_file_that_is_none(name, message):
    with pytest.raises(UsageError) as raised:
        identify(name)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(folder):
    (folder / "model.h5").chmod(0)
    with pytest.raises(UsageError, match=r"model\.h5: cannot be read: Permission denied"):
        identify("model.h5")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.pth", "no such file"),
        ("nowhere.safetensors", "no such file"),
        ("text.pt", "not a PyTorch file"),
        ("cut.pt", "is damaged"),
    ],
)
def test_a_checkpoint_that_is_none(name, message):
    with pytest.raises(UsageError, match=message):
        is_checkpoint(name)


@pytest.mark.parametrize("name", ["resnet18", "net.py:build", "model.onnx", "keras:ResNet50"])
def test_other_names_are_no_checkpoints(name):
    assert not is_checkpoint(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", True),
        ("model.ONNX", True),
        ("net.py", True),
        ("w.safetensors", True),
        (".", True),
        ("resnet50", False),
        ("resnet18@d2l", False),
        ("package.module", False),
    ],
)
def test_what_can_only_be_a_path(text, expected):
    assert is_path_like(text) is expected


def test_a_required_file():
    require_file("model.py")
    with pytest.raises(UsageError, match="nowhere: no such file"):
        require_file("nowhere")
    with pytest.raises(UsageError, match="plain: expected a file, found a folder"):
        require_file("plain")


def test_a_path_with_control_characters_is_one_line():
    with pytest.raises(UsageError) as raised:
        identify("a\nb.onnx")
    assert "\n" not in str(raised.value)


def test_every_suffix_of_a_model_can_be_identified():
    """A suffix that `identify` does not know would be refused although the help names it."""
    for suffix in model_files.MODEL_SUFFIXES:
        with pytest.raises(UsageError, match="no such file"):
            identify(f"nowhere{suffix}")
