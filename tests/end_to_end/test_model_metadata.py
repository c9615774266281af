"""What an exported file states of its model, and the comparison that is made by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import parity as api
from parity.errors import UsageError
from parity.network.inputs import preprocessing
from parity.network.onnx_metadata import AXES, CLASSES, PREPROCESSING, VERSION

pytestmark = pytest.mark.framework

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, image):
        return self.fc(torch.relu(self.conv(image)).mean((2, 3)))

def build():
    return Net(), torch.randn(2, 3, 24, 24)
"""
NAMES = ("cat", "dog", "fish", "bird", "frog")


def read(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script, a file of names, and the script's model as a file that states all."""
    folder = tmp_path_factory.mktemp("stated")
    (folder / "net.py").write_text(NET)
    (folder / "names.txt").write_text("\n".join(NAMES))
    api.export(
        f"{folder / 'net.py'}:build", folder / "net.onnx", side="torch", preprocess="scale",
        labels=folder / "names.txt",
    )  # fmt: skip
    return folder


def test_a_file_states_its_preprocessing_classes_and_axes(folder: Path) -> None:
    found = read(folder / "net.onnx")
    stated = json.loads(found[PREPROCESSING])
    assert preprocessing.Preprocessing.from_json(stated) == preprocessing.find("scale")
    assert json.loads(found[CLASSES]) == list(NAMES)
    assert json.loads(found[AXES]) == {"image": "NCHW"}
    assert found[VERSION] == api.__version__


def compared(folder: Path, **options: Any) -> Any:
    report = api.compare(
        f"net={folder / 'net.onnx'}", f"own={folder / 'net.py'}:build", reference="own",
        export=False, **options,
    )  # fmt: skip
    assert report.verdict == "parity", report
    return report


def test_a_file_is_compared_on_what_it_states(folder: Path) -> None:
    stated = compared(folder, input=None, shapes={"image": (1, 3, 24, 24)})
    assert "grace_hopper.jpg (as the model states)" in stated.input.source
    (note,) = [note for note in stated.notes if "metadata" in note]
    assert "RGB, x/255; --preprocess asks for another" in note
    assert stated.class_names == "the metadata of net"
    assert {each.name for each in stated.predictions.values()} <= set(NAMES)
    assert set(stated.predictions) == {"reference", "net", "own"}
    assert stated.subjects["net"].file == str(folder / "net.onnx")
    assert stated.subjects["own"].file == ""


def test_what_is_asked_for_outweighs_what_is_stated(folder: Path) -> None:
    (folder / "own.json").write_text(json.dumps(["a", "b", "c", "d", "e"]))
    asked = compared(
        folder, preprocess="none", labels=folder / "own.json", shapes={"image": (1, 3, 24, 24)}
    )
    assert "(none)" in asked.input.source
    assert any(note.startswith("net states another preprocessing") for note in asked.notes)
    assert asked.class_names == "own.json"
    assert {each.name for each in asked.predictions.values()} <= set("abcde")


@pytest.mark.slow
def test_a_registered_model_states_them_too(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    target = tmp_path / "r.onnx"
    options: dict[str, Any] = {"classes": 5, "image_size": 32}
    export = {"side": "torch", "preprocess": "keras:ResNet50", "labels": tmp_path / "names.txt"}
    api.export("resnet18", target, **export, **options)
    found = read(target)
    assert json.loads(found[AXES]) == {"input": "NCHW", "logits": "NC"}
    assert json.loads(found[PREPROCESSING])["size"] == [32, 32]
    assert json.loads(found[PREPROCESSING])["channels"] == "BGR"
    report = api.compare("resnet18", f"onnx-torch={target}", subjects="torch,onnx-torch", **options)
    assert report.verdict == "parity", report
    assert report.input.source == "grace_hopper.jpg (as the model states)"
    assert report.subjects["onnx-torch"].file == str(target)
    assert report.subjects["torch"].file == ""
    assert report.class_names == "the metadata of onnx-torch"
    with pytest.raises(UsageError, match="--labels: 5 class names, and resnet18 has 7 classes"):
        api.export("resnet18", tmp_path / "7.onnx", **export, classes=7, image_size=32)
    assert not (tmp_path / "7.onnx").exists()


def test_random_weights_have_no_class_names_of_imagenet() -> None:
    report = api.compare("resnet18", subjects="torch", image_size=32)
    assert report.class_names == ""
    assert {each.name for each in report.predictions.values()} == {""}
    assert set(report.predictions) == {"reference", "torch"}


def test_a_file_of_names_that_is_missing_is_refused_before_anything_runs(folder: Path) -> None:
    said: list[str] = []
    with pytest.raises(UsageError, match=r"--labels .*absent\.txt: cannot be read"):
        api.compare(
            "resnet18", labels=folder / "absent.txt", progress=lambda who, text: said.append(text)
        )
    assert said == []
