"""Class names: the user's, a file's, a training run's, ImageNet's; and what has none."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from parity.commands import class_names
from parity.commands.class_names import find_class_names, name_predictions, read_class_names
from parity.comparison.labels import ends_in_softmax, predict_first
from parity.comparison.results import Prediction
from parity.errors import UsageError
from parity.network import weights
from parity.network.inputs import preprocessing
from parity.network.onnx_metadata import StatedModel
from parity.numerics.capture import CaptureWriter
from parity.training.data.batches import Preprocessing
from parity.training.description import TrainedDescription

NOBODY: dict[str, Any] = {
    "given": None, "stated": {}, "checkpoints": [], "has_trained_weights": True
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "\ufeffcat\n\n grey dog \n"),
        ("names.json", '["cat", "grey dog"]'),
        ("classes.json", '{"classes": ["cat", "grey dog"], "model": "resnet18"}'),
    ],
)
def test_a_file_of_names_is_read(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_class_names(path) == ("cat", "grey dog")
    found = find_class_names(2, **{**NOBODY, "given": path})
    assert found is not None
    assert found.source == name


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", b"{}"), ("a.json", b"[1]"), ("a.json", b"["), ("a.txt", b"\xff"), ("absent", None)],
)
def test_a_file_that_has_no_names_is_one_line(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"--labels .*: cannot be read: ") as raised:
        read_class_names(tmp_path / name)
    assert "\n" not in str(raised.value)


def trained(folder: Path) -> Path:
    path = folder / "best.safetensors"
    description = TrainedDescription("resnet18", ("cat", "dog"), Preprocessing((8, 8), 1))
    weights.save(path, {"a": np.zeros(1, np.float32)}, metadata=description.to_metadata())
    return path


def test_names_of_a_file_and_of_a_training_run(tmp_path: Path) -> None:
    stated = {"m": StatedModel(classes=("x", "y")), "n": StatedModel(classes=("x", "y", "z"))}
    found = find_class_names(3, **{**NOBODY, "stated": stated})
    assert found is not None
    assert (found.names, found.source) == (("x", "y", "z"), "the metadata of n")
    run = {**NOBODY, "checkpoints": [tmp_path / "absent.pth", trained(tmp_path)]}
    found = find_class_names(2, **run)
    assert found is not None
    assert (found.names, found.source) == (("cat", "dog"), "best.safetensors")
    assert find_class_names(3, **run) is None


def test_a_wrong_number_of_names_is_a_note(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\n")
    predictions = {"torch": Prediction(2, 0.5)}
    found = name_predictions(predictions, 3, **{**NOBODY, "given": path})
    assert found.predictions == predictions
    assert found.notes == (
        f"no class names: --labels {path}: has 2 class names, the model has 3 outputs",
    )
    assert name_predictions({}, 0, **{**NOBODY, "given": path}).notes == ()


# ImageNet ---------------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages that are called like the collections, and that may not be imported."""
    for name in ("torchvision", "timm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('it was imported')")
    models, info = tmp_path / "torchvision" / "models", tmp_path / "timm" / "data" / "_info"
    models.mkdir()
    info.mkdir(parents=True)
    names = [f"name {at}" for at in range(1000)]
    (models / "_meta.py").write_text(
        f"raise AssertionError('it was run')\n_COCO = []\n_IMAGENET_CATEGORIES = {names!r}\n"
    )
    (info / "imagenet_synsets.txt").write_text("".join(f"n{at:08}\n" for at in range(1000)))
    (info / "imagenet_synset_to_lemma.txt").write_text(
        "".join(f"n{at:08}\tlemma {at}, another name\n" for at in range(1200))
    )
    for name in ("torchvision", "timm"):
        # The real one, which another test has imported, would be found first.
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return tmp_path


def test_a_thousand_classes_are_those_of_imagenet(packages: Path) -> None:
    found = find_class_names(1000, **NOBODY)
    assert found is not None
    assert found.names[7] == "name 7"
    assert found.source == "ImageNet's, from torchvision"
    (packages / "torchvision" / "models" / "_meta.py").write_text("_IMAGENET_CATEGORIES = ['a']")
    found = find_class_names(1000, **NOBODY)
    assert found is not None
    assert found.names[7] == "lemma 7"
    assert found.source == "ImageNet's, from timm"


@pytest.mark.parametrize(
    ("count", "is_trained"), [(10, True), (1000, False)], ids=["other-classes", "random-weights"]
)
def test_nothing_is_named_without_reason(packages: Path, count: int, is_trained: bool) -> None:
    known = {**NOBODY, "has_trained_weights": is_trained}
    assert find_class_names(count, **known) is None
    found = name_predictions({"torch": Prediction(3, 0.5)}, count, **known)
    assert found.predictions == {"torch": Prediction(3, 0.5)}
    assert found.class_names == ""


def test_no_collection_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_names, "_find_package", lambda name: None)
    assert find_class_names(1000, **NOBODY) is None


def test_the_command_line_loads_no_framework_for_names() -> None:
    code = (
        "import sys; from parity.commands.class_names import read_imagenet_names;"
        "read_imagenet_names(); print(sorted({'torch', 'torchvision', 'timm', 'keras'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def write(path: Path, values: dict[str, NDArray[Any]]) -> None:
    with CaptureWriter(path, {}) as writer:
        for row, array in values.items():
            writer.add(row, array)


# What is predicted ------------------------------------------------------------------------------


def test_the_most_probable_class_of_the_first_item(tmp_path: Path) -> None:
    logits = np.log(np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1]])).astype(np.float32)
    probable, wrong, broken = np.exp(logits), logits[:, ::-1].copy(), logits.copy()
    broken[0, 0] = np.nan
    paths = {}
    for name, values in {"r": logits, "a": probable, "b": wrong, "c": broken}.items():
        paths[name] = tmp_path / f"{name}.npz"
        write(paths[name], {"logits": values})
    captures = {name: paths[name] for name in "abc"}
    found = predict_first("logits", paths["r"], captures)
    assert {name: each.index for name, each in found.items()} == {"reference": 1, "a": 1, "b": 1}
    assert found["reference"].probability == pytest.approx(0.7, rel=1e-5)
    assert found["a"].probability == pytest.approx(0.7, rel=1e-5)
    assert ends_in_softmax("logits", paths["a"])
    assert not ends_in_softmax("logits", paths["r"])


@pytest.mark.parametrize("shape", [(1, 1), (1, 3, 2, 2), (4,)])
def test_what_is_no_classifier_predicts_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write(tmp_path / "r.npz", {"y": np.zeros(shape, np.float32)})
    assert predict_first("y", tmp_path / "r.npz", {}) == {}


# What an export states --------------------------------------------------------------------------


def test_an_export_states_what_was_given_or_is_known(tmp_path: Path) -> None:
    def state(preprocess: str | None = None, **known: Any) -> StatedModel:
        values = {"labels": None, "zoo_model": None, "checkpoint": None, **known}
        return class_names.state_model(preprocess, values.pop("labels"), **values)

    assert state() == StatedModel()
    assert state("scale") == StatedModel(preprocessing.find("scale"))
    known = state(zoo_model="keras:ResNet50,weights=w.h5")
    assert known.preprocessing == preprocessing.find("keras:ResNet50")
    assert state(zoo_model="keras:Unknown") == StatedModel()
    run = state(checkpoint=trained(tmp_path))
    assert run.classes == ("cat", "dog")
    assert run.preprocessing == preprocessing.Preprocessing(255.0, crop=None)
    (tmp_path / "names.json").write_text(json.dumps(["a", "b"]))
    own = state("none", labels=tmp_path / "names.json", checkpoint=trained(tmp_path))
    assert own == StatedModel(preprocessing.find("none"), ("a", "b"))
