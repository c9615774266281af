"""`parity convert A --into B`: any model's weights in another's names and axes, or not at all."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.end_to_end import harness

pytestmark = pytest.mark.framework

TORCH = """
import torch
from torch import nn

class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.dw = nn.Conv2d(6, 12, 3, groups=6, padding=1)
        self.bn = nn.BatchNorm2d(12)
        self.up = nn.ConvTranspose2d(12, 4, 2, stride=2)
        self.fc = nn.Linear(4 * 16 * 16, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.dw(torch.relu(self.conv(x)))))
        return self.fc(torch.relu(self.up(x)).flatten(1))

def images(seed=0):
    torch.manual_seed(seed)
    model = Images()
    nn.init.uniform_(model.bn.running_mean)
    nn.init.uniform_(model.bn.running_var, 0.5, 1.5)
    return model, torch.randn(2, 3, 8, 8)

class Tokens(nn.Module):
    def __init__(self, extra):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 4, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.att = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)
        if extra:
            self.extra = nn.Linear(3, 3)

    def forward(self, tokens):
        x = self.gru(self.lstm(self.embed(tokens))[0])[0]
        x = self.fc(self.att(x, x, x, need_weights=False)[0])
        return torch.tanh(self.extra(x)) if hasattr(self, "extra") else x

def tokens(seed=0, extra=False):
    torch.manual_seed(seed)
    model = Tokens(extra)
    nn.init.uniform_(model.att.in_proj_bias)
    return model, torch.randint(0, 11, (2, 5))
"""

KERAS = """
import keras
import numpy as np
from keras import layers

def images(seed=0):
    keras.utils.set_random_seed(seed)
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y)
    y = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(y))
    y = layers.Conv2DTranspose(4, 2, strides=2, activation="relu")(y)
    return keras.Model(x, layers.Dense(5)(layers.Flatten()(y)))

def tokens(seed=0, reset_after=True):
    keras.utils.set_random_seed(seed)
    x = keras.Input((None,), dtype="int32")
    y = layers.Embedding(11, 6)(x)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(y)
    y = layers.GRU(8, return_sequences=True, reset_after=reset_after)(y)
    y = layers.MultiHeadAttention(2, 4)(y, y)
    return keras.Model(x, layers.Dense(3)(y))

class Tokens(keras.Model):
    def __init__(self, seed=0):
        keras.utils.set_random_seed(seed)
        super().__init__()
        self.head = layers.Dense(3)
        self.attention = layers.MultiHeadAttention(2, 4)
        self.second = layers.GRU(8, return_sequences=True, reset_after=False)
        self.first = layers.Bidirectional(layers.LSTM(4, return_sequences=True))
        self.embed = layers.Embedding(11, 6)

    def call(self, tokens):
        y = self.second(self.first(self.embed(tokens)))
        return self.head(self.attention(y, y))

def layers_in_another_order():
    return Tokens(), np.arange(10, dtype="int32").reshape(2, 5)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "tn.py").write_text(TORCH)
    (folder / "kn.py").write_text(KERAS)
    return folder


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("tn.py:images,seed=3", "kn.py:images", "images.weights.h5"),
        pytest.param(
            "kn.py:images,seed=4", "tn.py:images", "images.safetensors", marks=pytest.mark.slow
        ),
        pytest.param("tn.py:tokens,seed=3", "kn.py:tokens", "tokens.keras", marks=pytest.mark.slow),
        ("kn.py:tokens,seed=4", "tn.py:tokens", "tokens.pth"),
        (
            "kn.py:tokens,seed=4,reset_after=False",
            "kn.py:layers_in_another_order",
            "tokens.weights.h5",
        ),
    ],
)
def test_the_target_with_the_checkpoint_is_in_parity(
    parity, folder, tmp_path, source, target, name
):
    """Flattened maps, gates, depth multipliers, packed projections: all are moved."""
    out = tmp_path / name
    source, target = (f"{folder}/{each}" for each in (source, target))
    done = parity("convert", source, "--into", target, out)
    assert done.code == 0, done.err
    assert "read back and equal bit for bit" in done.out
    assert "another function" not in done.err
    again = parity("compare", source, f"{target},weights={out}", "--no-export", "--json", "-")
    assert again.code == 0, again.out
    assert again.report["verdict"] == "parity"
    assert again.report["levels"]["weights"] == "pass"


def test_an_onnx_file_is_a_source(parity, folder, tmp_path):
    model, out = tmp_path / "m.onnx", tmp_path / "images.pth"
    assert parity("export", "--onnx", model, f"{folder}/tn.py:images,seed=3").code == 0
    done = parity("convert", model, "--into", f"{folder}/tn.py:images,seed=8", out)
    assert done.code == 0, done.err
    compared = f"{folder}/tn.py:images,seed=3", f"b={folder}/tn.py:images,seed=8,weights={out}"
    again = parity("compare", *compared, "--no-export", "--json", "-")
    assert again.report["verdict"] == "parity", again.out


def test_one_model_in_another_format(parity, folder, tmp_path):
    first, second = tmp_path / "a.pth", tmp_path / "b.safetensors"
    model = f"{folder}/tn.py:tokens"
    done = [
        parity("convert", f"{model},seed=5", first),
        parity("convert", model, "--weights", first, second),
        parity("convert", model, tmp_path / "c.safetensors"),
    ]
    assert [each.code for each in done] == [0, 0, 0]
    digests = [each.out.split("sha256 ")[1].split()[0] for each in done]
    assert digests[0] == digests[1] != digests[2]


def test_what_has_no_partner_is_named_and_nothing_is_written(parity, folder, tmp_path):
    out = tmp_path / "out.weights.h5"
    out.write_text("precious")
    done = parity(
        "convert", f"{folder}/tn.py:tokens,extra=True", "--into", f"{folder}/kn.py:tokens", out
    )
    assert done.code == 1
    assert "2 weights of torch have no partner in keras: extra.weight (3, 3); extra.bias (3,)" in (
        done.error
    )
    assert out.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir() if path.name != "scratch"] == [out.name]


def test_weights_that_fit_another_function_are_told(parity, folder, tmp_path):
    """A GRU with the reset gate before the product has the same weights, and other outputs."""
    out = tmp_path / "out.weights.h5"
    done = parity(
        "convert",
        f"{folder}/tn.py:tokens",
        "--into",
        f"{folder}/kn.py:tokens,reset_after=False",
        out,
    )
    assert done.code == 1
    assert "keras computes another function of these weights" in done.err
    assert out.is_file()


WRONG = [
    (("tn.py:tokens", "o.weights.h5"), "torch is a model of PyTorch: give .safetensors or .pth"),
    (("tn.py:tokens", "--into", "kn.py:tokens", "o.safetensors"), "a model of Keras: give"),
    (("tn.py:tokens", "o.txt"), "unknown checkpoint format"),
    (("tn.py:tokens", "no/o.pth"), "there is no folder"),
    (("tn.py:tokens", "--weights", "none.pth", "o.pth"), "none.pth: no such file"),
    (("resnet18", "--into", "tn.py:images", "o.pth"), "a registered model has no weights"),
    (("resnet18", "o.pth"), "a registered model has no weights: give --weights FILE"),
    (("tn.py:tokens", "o.pth", "--classes", "3"), "--classes and --channels belong to"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "error"), WRONG)
def test_what_cannot_be_converted(parity, folder, tmp_path, arguments, error):
    words = [f"{folder}/{each}" if each[1:5] == "n.py" else each for each in arguments]
    words = [f"{tmp_path}/{each}" if each.startswith("o.") else each for each in words]
    done = parity("convert", *words)
    assert done.code == 2
    assert error in done.error


@pytest.mark.slow
def test_a_registered_model_is_source_and_target(parity, tmp_path, checkpoint):
    """Into Keras's own layers and back: the canonical file is the same, bit for bit."""
    twin = "resnet18,classes=10,image_size=64"
    there, back = tmp_path / "there.weights.h5", tmp_path / "back.safetensors"
    shown = [
        parity("convert", twin, "--weights", checkpoint, "--into", twin, there),
        parity("convert", twin, "--weights", there, "--into", twin, back),
    ]
    assert [each.code for each in shown] == [0, 0], [each.err for each in shown]
    digests = [each.out.split("sha256 ")[1].split()[0] for each in shown]
    assert digests[0] == digests[1]


def test_ctrl_c_keeps_the_old_file(folder, tmp_path):
    target = tmp_path / "out.keras"
    target.write_text("precious")
    running = harness.start(
        tmp_path / "scratch", "convert", f"{folder}/tn.py:tokens", "--into",
        f"{folder}/kn.py:tokens", target,
    )  # fmt: skip
    running.wait_for(lambda: len(harness.processes(running.identity)) > 2)
    running.signal(signal.SIGINT)
    done = running.finish()
    assert done.code == 3
    assert not done.left
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"out.keras", "scratch"}
