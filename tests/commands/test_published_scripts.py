"""The two published scripts that docs/training.md walks through, feature by feature, made small.

Those of the Keras script are slow; the PyTorch script is run in every change's tests.
"""

from __future__ import annotations

import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from PIL import Image

from parity.commands.cli import main
from parity.network import architectures, weights
from tests.network.models import small_variants
from tests.training.data.test_sources import idx_bytes

pytestmark = pytest.mark.framework

DENSE = f"{small_variants.DENSE}-small"
AUGMENTATION = (
    "--rotation", "20", "--width-shift", "0.2", "--height-shift", "0.2", "--shear", "0.2",
    "--zoom", "0.2", "--horizontal-flip",
)  # fmt: skip


def run(capsys, *words):
    """Run a command; return its exit code and its standard output."""
    code = main.main(list(map(str, words)))
    return code, capsys.readouterr().out


def draw(folder, counts):
    """Write an image folder with train/, val/ and test/ of two classes with Chinese names."""
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for number, name in enumerate(("狗", "猫")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = (random.integers(0, 120, (40, 48, 3)) + 120 * number).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


# Script 1: Keras ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_script(tmp_path_factory):
    """The folder of the data, that of the run, and what the command printed."""
    folder = tmp_path_factory.mktemp("script")
    data = draw(folder / "data", {"train": 5, "val": 3, "test": 2})
    known = small_variants.registry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architectures, "_registry", lambda: known)
        patch.chdir(folder)
        words = [
            *("train", DENSE, "--framework", "keras", "--data", "data", "--image-size", "32"),
            *("--batch", "4", "--drop-last", "--learning-rate", "1e-3", *AUGMENTATION),
        ]
        with redirect_stdout(StringIO()) as output:
            first = main.main([*words, "--epochs", "1", "--format", ".h5", "--out", "first"])
            second = main.main([*words, "--epochs", "2", "--init", "first/keras/last.h5",
                                "--initial-epoch", "1", "--out", "second"])  # fmt: skip
    assert (first, second) == (0, 0)
    return data, folder, output.getvalue()


@pytest.mark.slow
def test_the_classes_the_steps_and_the_wall_time_are_told(keras_script):
    _, folder, output = keras_script
    assert "2 classes: 0 狗, 1 猫\n" in output
    assert re.search(r"-small, \d+ s in all; first holds", output)
    configuration = json.loads((folder / "first" / "configuration.json").read_text())
    assert configuration["data"]["images"] == {"training": 10, "validation": 6, "test": 4}
    assert configuration["augmentation"]["zoom"] == 0.2
    assert configuration["callbacks"] == {
        "plateau": {"factor": 0.5, "patience": 3, "min_delta": 1e-4, "min_rate": 1e-6},
        "early_stopping": {"patience": 8},
    }
    # Ten images in batches of four are two steps, since the last one is dropped.
    state = json.loads((folder / "first" / "progress.json").read_text())
    assert state["frameworks"]["keras"]["images"] == 8


@pytest.mark.slow
def test_the_history_is_a_picture_of_two_panels(keras_script):
    _, folder, _ = keras_script
    picture = (folder / "first" / "history.svg").read_text()
    assert picture.count('id="axes_') == 2
    assert len((folder / "first" / "metrics.csv").read_text().splitlines()) == 2


@pytest.mark.slow
def test_the_run_goes_on_from_the_final_model_at_a_given_epoch(keras_script):
    _, folder, _ = keras_script
    history = json.loads((folder / "second" / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history["frameworks"]["keras"]] == [2]
    spec = replace(small_variants.small(small_variants.DENSE), classes=2, image_size=(32, 32))
    table = spec.table_for(("keras",))
    start = weights.load(folder / "second" / "initial.safetensors", table)
    last = weights.load(folder / "first" / "keras" / "last.safetensors", table)
    assert all(np.array_equal(start[name], last[name]) for name in last)


@pytest.mark.slow
def test_the_best_model_is_evaluated_on_validation_and_test(keras_script, capsys, tmp_path):
    data, folder, _ = keras_script
    code, output = run(
        capsys, "evaluate", folder / "first" / "keras" / "best.h5", "--data", data,
        "--out", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "validation: 6 images, 2 classes" in output
    assert "test: 4 images, 2 classes" in output
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(found["splits"]["test"]["runtimes"]) == ["keras", "onnx-keras"]
    # The head is a softmax, which the loss of the run took as probabilities.
    history = json.loads((folder / "first" / "history.json").read_text())
    (epoch,) = history["frameworks"]["keras"]
    scores = found["splits"]["validation"]["runtimes"]["keras"]
    assert scores["loss"] == pytest.approx(epoch["validation_loss"], rel=1e-3)
    assert scores["top1"] == epoch["validation_accuracy"]


@pytest.mark.slow
def test_samples_and_one_image_by_path_are_predicted(keras_script, capsys, tmp_path):
    data, folder, _ = keras_script
    best = folder / "first" / "keras" / "best.h5"
    code, output = run(capsys, "predict", best, "--data", data, "--subjects", "keras",
                       "--samples", "3", "--picture", tmp_path / "samples.png")  # fmt: skip
    assert code == 0
    assert output.count("keras") == 3
    assert Image.open(tmp_path / "samples.png").size[0] > 300
    code, output = run(capsys, "predict", best, data / "test" / "猫" / "1.png",
                       "--subjects", "keras")  # fmt: skip
    assert code == 0
    assert re.search(r"1\.png +猫 +keras +[狗猫] \d+\.\d\d%, [狗猫] \d+\.\d\d%", output)


@pytest.mark.slow
def test_the_layers_have_output_shapes_and_counts_of_parameters(keras_script, capsys):
    _, folder, _ = keras_script
    code, output = run(capsys, "table", folder / "first" / "keras" / "best.h5")
    assert code == 0
    header, *rows = output.splitlines()
    assert header.split()[-2:] == ["trainable", "other"]
    assert any(row.split()[1].endswith("avg_pool") for row in rows if len(row.split()) > 1)
    assert re.search(r"\d+ operations, [\d,]+ trainable parameters", output)


# Script 2: PyTorch -------------------------------------------------------------------------------

RESIDUAL = '''
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two convolutions beside a shortcut, with a 1×1 convolution if it is asked for."""

    def __init__(self, inputs, channels, use_1x1conv=False, strides=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding=1, stride=strides)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(inputs, channels, 1, stride=strides) if use_1x1conv else None
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, X):
        Y = F.relu(self.bn1(self.conv1(X)))
        Y = self.bn2(self.conv2(Y))
        if self.conv3 is not None:
            X = self.conv3(X)
        return F.relu(Y + X)
'''


@pytest.mark.parametrize(
    ("reference", "shape"),
    [("Residual,3,3", "4×3×6×6"), ("Residual,3,6,use_1x1conv=True,strides=2", "4×6×3×3")],
)
def test_a_residual_block_alone_has_its_shapes(tmp_path, capsys, reference, shape):
    path = tmp_path / "net.py"
    path.write_text(RESIDUAL)
    code, output = run(capsys, "table", f"{path}:{reference}", "--shape", "X=4x3x6x6")
    assert code == 0
    assert shape in output.replace("[", "").replace("]", "").replace(", ", "×")


def test_the_textbook_network_has_its_shapes_after_each_stage(capsys):
    code, output = run(capsys, "table", "resnet18@d2l", "--shapes")
    assert code == 0
    rows = dict(line.split() for line in output.splitlines()[1:10] if len(line.split()) == 2)
    assert rows["input"] == "1×224×224"
    assert (rows["stage1"], rows["stage4"]) == ("64×56×56", "512×7×7")


def test_fashion_mnist_trains_the_textbook_network(tmp_path, capsys):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 10
    pixels = (random.integers(0, 30, (60, 28, 28)) + 22 * labels[:, None, None]).astype(np.uint8)
    data = tmp_path / "fashion"
    data.mkdir()
    for name, count in (("train", 60), ("t10k", 20)):
        (data / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(pixels[:count]))
        (data / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels[:count]))
    code, output = run(
        capsys, "train", "resnet18@d2l", "--framework", "torch", "--data", data,
        "--image-size", "32", "--batch", "32", "--optimizer", "sgd", "--learning-rate", "0.05",
        "--init", "xavier-uniform", "--epochs", "2", "--no-plateau", "--no-early-stopping",
        "--validate-on-test", "--format", ".pth", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0
    # Examples per second, and the curves of both splits.
    assert output.splitlines()[0].endswith("images/s")
    assert int(output.splitlines()[1].split()[-1]) > 0
    configuration = json.loads((tmp_path / "run" / "configuration.json").read_text())
    assert configuration["data"]["images"] == {"training": 60, "validation": 20}
    assert configuration["preprocessing"]["channels"] == 1
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    epochs = history["frameworks"]["torch"]
    assert [epoch["learning_rate"] for epoch in epochs] == [0.05, 0.05]
    assert {"loss", "accuracy", "validation_accuracy"} <= epochs[0].keys()
    start = weights.load(
        tmp_path / "run" / "initial.safetensors",
        architectures.get("resnet18@d2l", classes=10, image_size=(32, 32), channels=1).table(),
    )
    kernel = next(value for value in start.values() if value.ndim == 2)
    limit = np.sqrt(6 / sum(kernel.shape))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    code, output = run(capsys, "evaluate", "resnet18@d2l", "--data", data, "--split", "test",
                       "--weights", tmp_path / "run" / "torch" / "last.pth",
                       "--subjects", "torch,onnx-torch")  # fmt: skip
    assert code == 0
    assert "test: 20 images, 10 classes" in output
    assert f"{epochs[-1]['validation_accuracy']:.2%}" in output
