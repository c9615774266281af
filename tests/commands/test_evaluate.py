"""`parity evaluate` and `parity predict`: a folder and single images through every runtime."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import parity
from parity.commands.cli import main
from parity.comparison.placement import DeviceMissing
from parity.errors import ChildError, InputError, OutputError, RequirementError, UsageError
from parity.network import architectures, weights
from parity.report.evaluation import require_replaceable
from parity.training import initialization
from parity.training.data.batches import Preprocessing
from parity.training.description import TrainedDescription
from tests.commands.test_train import draw_folder

pytestmark = pytest.mark.usefixtures("shared_children")

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """A classifier of images of any size."""

    def __init__(self, classes=3, softmax=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, classes)
        self.softmax = softmax

    def forward(self, x):
        logits = self.head(self.conv(x).relu().mean((2, 3)))
        return logits.softmax(1) if self.softmax else logits
'''


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as `parity train` writes it, with the classes cat and dog."""
    spec = architectures.get("resnet18", classes=2, image_size=(32, 32))
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    values = initialization.draw(spec, "he-normal", seed=0)
    description = TrainedDescription("resnet18", ("cat", "dog"), Preprocessing((32, 32), 3))
    weights.save(path, values, metadata=description.to_metadata())
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty images, and one that is none."""
    root = draw_folder(tmp_path_factory.mktemp("data") / "data", count=10)
    (root / "dog" / "broken.jpg").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def evaluated(checkpoint, data, tmp_path_factory):
    """The command's exit code and its folder, for all four runtimes."""
    folder = tmp_path_factory.mktemp("evaluated")
    words = ("evaluate", "resnet18", "--data", data, "--weights", checkpoint, "--out", folder)
    code = main.main([*map(str, words), "--exact", "--batch", "8"])
    return code, folder


@pytest.mark.framework
def test_a_folder_goes_through_every_runtime(evaluated):
    code, folder = evaluated
    found = json.loads((folder / "evaluation.json").read_text())
    assert found["schema"] == "parity.evaluation/1"
    assert found["classes"] == ["cat", "dog"]
    split = found["splits"]["all"]
    assert list(split["runtimes"]) == ["keras", "torch", "onnx-keras", "onnx-torch"]
    losses = [figures["loss"] for figures in split["runtimes"].values()]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-4)
    for figures in split["runtimes"].values():
        assert np.sum(figures["confusion"]) == 20
        assert figures["top5"] == 1.0
    assert (split["images"], split["reference"]["passes"]) == (20, 3)
    assert max(split["reference"]["largest_error"].values()) < 1e-2
    assert split["changed"] == []
    # The one that cannot be read is named, and the exit code says that it was not evaluated.
    (reason,) = found["unreadable"]
    assert "broken.jpg" in reason
    assert code == 3


@pytest.mark.framework
def test_the_folder_has_a_page_pictures_and_every_prediction(evaluated):
    _, folder = evaluated
    page = (folder / "evaluation.html").read_text()
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert page.count("<img ") == 2
    for text in ("every image has the same label", "1 image could not be read", "broken.jpg"):
        assert text in page
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "confusion.png", "predictions.png",
    ]  # fmt: skip
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert {row["true"] for row in rows} == {"cat", "dog"}
    assert all(row["keras"] == row["onnx-torch"] for row in rows)
    # The next evaluation may replace them all.
    require_replaceable(folder)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.py"
    path.write_text(NET)
    return path


@pytest.mark.framework
def test_any_model_is_evaluated_with_its_own_graph(net, data):
    logits = parity.evaluate(f"{net}:Net,2", data=data, image_size=16)
    assert [list(split.scores) for split in logits.splits] == [["torch", "onnx-torch"]]
    (split,) = logits.splits
    assert split.reference.runtime == "torch"
    assert any("does not tell its classes" in note for note in logits.notes)
    # A model that ends in a softmax has the same loss.
    probable = parity.evaluate(f"{net}:Net,2,softmax=True", data=data, image_size=16,
                               subjects="torch")  # fmt: skip
    loss = probable.splits[0].scores["torch"].loss
    assert loss == pytest.approx(split.scores["torch"].loss, rel=1e-4)
    with pytest.raises(InputError, match=r"torch: the model has 3 classes, .* has 2"):
        parity.evaluate(f"{net}:Net", data=data, image_size=16, subjects="torch")


SIZED = """
import torch
from torch import nn


def sized(channels=1, size=28):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 2, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2 * (size // 2) ** 2, 2)
    )


def open_size():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )


def with_example():
    return sized(), torch.zeros(1, 1, 28, 28)
"""

SIZED_KERAS = """
import keras


def keras_model(size=28):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((size, size, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.head = keras.layers.Dense(2)

    def call(self, x):
        return self.head(self.pool(x))
"""


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    """A folder of two files: the child of one framework does not import the other."""
    folder = tmp_path_factory.mktemp("sized")
    (folder / "sized.py").write_text(SIZED)
    (folder / "sized_keras.py").write_text(SIZED_KERAS)
    return folder


@pytest.mark.framework
@pytest.mark.parametrize(
    ("model", "options", "note"),
    [
        ("sized.py:sized", {}, "it runs on 1x28x28"),
        pytest.param("sized.py:sized,3,size=50", {}, "it runs on 3x50x50", marks=pytest.mark.slow),
        ("sized.py:sized,1,size=58", {"image_size": 58}, "it runs on 1x58x58"),
        ("sized.py:with_example", {}, None),
        (
            "sized.py:open_size",
            {},
            "it is given 1x224x224, which --image-size and --channels change",
        ),
        ("sized_keras.py:keras_model", {"image_size": 28}, None),
        pytest.param(
            "sized_keras.py:Subclass", {}, "it is given 3x224x224", marks=pytest.mark.slow
        ),
    ],
)
def test_images_have_the_shape_that_a_model_takes(model, options, note, sized, data):
    found = parity.evaluate(f"{sized}/{model}", data=data, **options)
    assert not found.failures
    assert len(found.splits[0].scores) == 2
    sizes = [text for text in found.notes if "states no size of its images" in text]
    assert len(sizes) == (note is not None)
    assert all(note in text for text in sizes)


@pytest.mark.framework
@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("sized.py:sized,1,size=58", {}, r"run on images of 3x224x224 and 39 more: .*mat1"),
        ("sized.py:sized", {"image_size": 32}, r"run on images of 3x32x32 and 1 more: .*mat1"),
        (
            "sized.py:sized",
            {"channels": 3, "image_size": 28},
            r"images of 3x28x28: .*to have 1 channels",
        ),
        (
            "sized_keras.py:keras_model",
            {"image_size": 32},
            r"takes images of 1x28x28, the images have 1x32x32",
        ),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_images_that_a_model_does_not_take_are_refused_with_the_option(
    command, model, options, message, sized, data
):
    with pytest.raises((InputError, UsageError), match=message) as error:
        getattr(parity, command)(f"{sized}/{model}", data=data, **options)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    assert "--image-size" in str(error.value)


@pytest.mark.framework
def test_a_label_that_changes_ends_with_exit_code_1(net, data, tmp_path, monkeypatch, capsys):
    from parity.evaluation.passes import Passes

    own = Passes.run

    def fault(self, reader, *, sampled=()):
        outputs = own(self, reader, sampled=sampled)
        outputs.by_subject["onnx-torch"][4] *= -1
        return outputs

    monkeypatch.setattr(Passes, "run", fault)
    words = ["evaluate", f"{net}:Net,2", "--data", str(data), "--image-size", "16"]
    assert main.main([*words, "--out", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "1 image with another label in one runtime than in another" in output
    line = next(line for line in output.splitlines() if line.startswith(str(data / "cat")))
    assert line.endswith("torch")
    page = (tmp_path / "evaluation.html").read_text()
    assert page.count("<img ") == 3
    assert (tmp_path / "changed.png").exists()
    # No picture of it stays where the next evaluation has none.
    monkeypatch.setattr(Passes, "run", own)
    assert main.main([*words, "--out", str(tmp_path)]) == 3  # An image cannot be read.
    assert not (tmp_path / "changed.png").exists()
    assert (tmp_path / "confusion.png").exists()


# Predictions ------------------------------------------------------------------------------------


@pytest.mark.framework
def test_an_image_has_class_names_and_probabilities(checkpoint, data, tmp_path, capsys):
    image, broken = data / "dog" / "3.png", data / "dog" / "broken.jpg"
    words = ("predict", "resnet18", image, broken, "--weights", checkpoint)
    target = tmp_path / "p.png"
    code = main.main([*map(str, words), "--json", str(tmp_path / "p.json"), "--picture",
                      str(target)])  # fmt: skip
    output, notes = capsys.readouterr()
    assert (code, "broken.jpg" in notes) == (3, True)
    assert [line.split()[0] for line in output.splitlines()[2:]] == [
        "torch", "onnx-keras", "onnx-torch",
    ]  # fmt: skip
    (found,) = json.loads((tmp_path / "p.json").read_text())["predictions"]
    # The folder has the name of a class.
    assert (found["image"], found["true"]) == (str(image), "dog")
    for labels in found["labels"].values():
        assert {label["name"] for label in labels} == {"cat", "dog"}
        assert sum(label["probability"] for label in labels) == pytest.approx(1)
        assert labels[0]["probability"] >= labels[1]["probability"]
    assert Image.open(target).size[0] > 100


@pytest.fixture(scope="module")
def alone(net, data):
    """An evaluation by one process, and its progress."""
    said = []
    options = {"data": data, "image_size": 16, "subjects": "torch", "batch": 1}
    found = parity.evaluate(f"{net}:Net,2", **options, progress=lambda who, text: said.append(text))
    return found, said


@pytest.mark.framework
def test_progress_has_the_time_left(alone):
    _, said = alone
    assert any(re.fullmatch(r"batch 1 of \d+, \d+:\d\d left", text) for text in said)


# Shards -----------------------------------------------------------------------------------------


def list_figures(text):
    """Everything of a JSON document but the seconds."""
    document = json.loads(text)
    for split in document["splits"].values():
        assert split.pop("seconds")
    return document


@pytest.mark.framework
def test_shards_have_the_figures_of_one_process(net, data, alone):
    options = {"data": data, "image_size": 16, "subjects": "torch", "batch": 1}
    said = []
    found = parity.evaluate(
        f"{net}:Net,2", **options, on="local", jobs=1,
        progress=lambda who, text: said.append((who, text)),
    )  # fmt: skip
    one, other = (list_figures(json.dumps(each.to_json())) for each in (alone[0], found))
    assert one == other
    assert found.unreadable
    assert ("evaluate", "20 of 20 shards") in said


@pytest.mark.framework
@pytest.mark.parametrize(
    "subjects", ["torch", pytest.param("torch,onnx-torch", marks=pytest.mark.slow)]
)
def test_shards_of_a_registered_model_have_the_figures_of_one_process(checkpoint, data, subjects):
    """Its weights are a checkpoint's, and a graph is exported in each process."""
    options = {"data": data, "weights": checkpoint, "subjects": subjects, "batch": 8}
    alone = parity.evaluate("resnet18", **options)
    said = []
    found = parity.evaluate(
        "resnet18", **options, on="local", jobs=1,
        progress=lambda who, text: said.append((who, text)),
    )  # fmt: skip
    one, other = (list_figures(json.dumps(each.to_json())) for each in (alone, found))
    assert one == other
    assert list(one["splits"]["all"]["runtimes"]) == subjects.split(",")
    assert ("evaluate", "3 of 3 shards") in said


def test_a_cluster_is_reached_before_the_images_are_read(net, tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(RequirementError, match=r"^ray: 127\.0\.0\.1:1 cannot be reached: "):
        parity.evaluate(f"{net}:Net,2", data=tmp_path / "none", on="ray:127.0.0.1:1")


FORKED = """
import os, signal
from pathlib import Path
import torch
from torch import nn

FATAL = Path(__file__).with_name("die")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        logits = self.head(self.conv(x).relu().mean((2, 3)))
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            # The graph has other labels for bright images.
            return logits * torch.where(x.mean((1, 2, 3)) > 0.4, -1.0, 1.0)[:, None]
        if FATAL.exists():
            FATAL.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
        return logits
"""
"""A model whose graph differs, and which once ends the process that evaluates a shard."""


@pytest.mark.slow
@pytest.mark.framework
@pytest.mark.parametrize(("on", "exact"), [("local", False), ("ray", True)])
def test_a_folder_in_shards_is_one_result_though_a_process_is_lost(
    on, exact, data, tmp_path, capsys
):
    if on == "ray":
        pytest.importorskip("ray")
    (tmp_path / "net.py").write_text(FORKED)
    words = ["evaluate", f"{tmp_path}/net.py:Net", "--data", str(data), "--image-size", "16"]
    words += ["--batch", "4", *(["--exact"] if exact else [])]
    codes = [main.main([*words, "--out", str(tmp_path / "alone")])]
    (tmp_path / "die").touch()
    codes += [main.main([*words, "--out", str(tmp_path / "shards"), "--on", on, "--jobs", "2"])]
    assert not (tmp_path / "die").exists()
    assert codes == [1, 1]
    found = [tmp_path / name for name in ("alone", "shards")]
    one, other = (list_figures((each / "evaluation.json").read_text()) for each in found)
    assert one == other
    split = one["splits"]["all"]
    assert (len(split["changed"]), len(one["unreadable"])) == (10, 1)
    assert all(image["right"] == ["torch"] for image in split["changed"])
    seconds = re.compile(r'<td class="number">[0-9.]+</td></tr>')
    pages = [seconds.sub("", (each / "evaluation.html").read_text()) for each in found]
    assert pages[0] == pages[1]
    names = [sorted(path.name for path in each.iterdir()) for each in found]
    assert names[0] == names[1]
    for name in ("predictions.csv", "confusion.png", "predictions.png", "changed.png"):
        assert (found[0] / name).read_bytes() == (found[1] / name).read_bytes()


def test_samples_are_chosen_by_the_seed(net, data):
    def images(seed):
        found = parity.predict(f"{net}:Net,2", data=data, image_size=16, subjects="torch",
                               samples=4, seed=seed)  # fmt: skip
        return [prediction.image for prediction in found.predictions]

    assert len(images(0)) == 4
    assert images(0) == images(0) != images(1)


def hide_gpu(*args):
    raise RequirementError("no NVIDIA driver")


@pytest.mark.parametrize(
    "command",
    [
        lambda c, d: parity.evaluate("resnet18", data=d, weights=c, device="gpu"),
        lambda c, d: parity.predict("resnet18", data=d, weights=c, device="gpu"),
    ],
    ids=["evaluate", "predict"],
)
def test_a_gpu_that_is_not_there_is_a_line_for_each_runtime(command, checkpoint, data, monkeypatch):
    from parity.processes import gpus

    monkeypatch.setattr(gpus, "find_gpu", hide_gpu)
    with pytest.raises(DeviceMissing) as error:
        command(checkpoint, data)
    lines = error.value.lines
    assert [line.partition(":")[0] for line in lines] == ["keras", "torch", "onnx"]
    assert all("no NVIDIA driver" in line for line in lines)
    assert error.value.exit_code == 3


@pytest.mark.framework
@pytest.mark.slow
def test_a_runtime_that_cannot_use_the_gpu_does_not_compute_on_the_cpu(net, data, monkeypatch):
    """A GPU that the driver has, and PyTorch does not see."""
    from parity.processes import gpus

    monkeypatch.setattr(gpus, "find_gpu", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ChildError, match="no runtime can be evaluated: torch: ") as error:
        parity.predict(f"{net}:Net,2", data=data, image_size=16, subjects="torch", device="gpu")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, d: parity.evaluate("resnet18", data=d), "resnet18: give its weights with"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights="gone.pth"), "no such file"),
        (lambda c, d: parity.evaluate("resnet18", data=d / "cat", weights=c), "found no folder"),
        (lambda c, d: parity.evaluate("resnet18", data="digits", weights=c), "'0' .* is none"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, split="x"), "--split:"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, device="x"), "--device:"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, threads=0), "--threads:"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, batch=0), "--batch"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, subjects="tf"), "unknown sub"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, jobs=2), "--jobs: only with"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, on="x"), "--on: unknown pla"),
        (lambda c, d: parity.evaluate("resnet18", data=d, weights=c, on="local", jobs=0), "--jobs"),
        (lambda c, d: parity.predict("resnet18", weights=c), "give image files, or --data"),
        (lambda c, d: parity.predict("resnet18", "x.png", data=d, weights=c), "give image files"),
        (lambda c, d: parity.predict("resnet18", "gone.png", weights=c), "no image can be read"),
        (lambda c, d: parity.predict("resnet18", data=d, weights=c, samples=0), "--samples must"),
        (lambda c, d: parity.predict("resnet18", data=d, weights=c, picture="p.bmp"), "p.bmp: exp"),
        (lambda c, d: parity.predict("resnet18", data=d, weights=c, device="x"), "--device: expec"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused_in_one_line(call, message, checkpoint, data):
    with pytest.raises((InputError, UsageError, OutputError), match=message) as error:
        call(checkpoint, data)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_damaged_description_is_refused(checkpoint, tmp_path):
    path = tmp_path / "best.safetensors"
    weights.save(
        path, {"a": np.zeros(1, np.float32)}, metadata={"classes": "[", "preprocessing": ""}
    )
    with pytest.raises(InputError, match="cannot be read as the description of a trained model"):
        parity.evaluate("resnet18", data="digits", weights=path)


@pytest.mark.framework
def test_the_classes_of_the_data_must_be_as_many_as_the_models(data, tmp_path):
    spec = architectures.get("resnet18", classes=3, image_size=(32, 32))
    path = tmp_path / "other.safetensors"
    weights.save(path, initialization.draw(spec, "he-normal", seed=0))
    with pytest.raises(InputError, match="has 3 classes, the data have 2") as error:
        parity.evaluate("resnet18", data=data, weights=path, image_size=32, subjects="torch")
    assert "\n" not in str(error.value)


def test_a_description_is_read_from_the_folder_of_a_run(tmp_path):
    from parity.training.description import FILE_NAME, read_description

    described = TrainedDescription(
        "resnet18", ("猫", "dog"), Preprocessing((96, 64), 1, (0.5,), (0.25,))
    )
    (tmp_path / "run" / "keras").mkdir(parents=True)
    (tmp_path / "run" / FILE_NAME).write_text(json.dumps(described.to_json()))
    checkpoint = tmp_path / "run" / "keras" / "best.h5"
    checkpoint.write_bytes(b"weights")
    assert read_description(checkpoint) == described
    canonical = tmp_path / "best.safetensors"
    weights.save(canonical, {"a": np.zeros(1, np.float32)}, metadata=described.to_metadata())
    assert read_description(canonical) == described
    assert read_description(Path(tmp_path / "other.pth")) is None
