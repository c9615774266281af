"""Other inputs, further runs and saved captures of models that references name."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.numerics.run_results import read_run_results

pytestmark = pytest.mark.framework

TORCH = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        y = self.conv(x)
        if self.kind == "relu6":
            y = nn.functional.relu6(y)
        elif self.kind == "seven":
            y = torch.relu(y)
            y = y - torch.relu(y - 7.0)
        elif self.kind == "large":
            y = torch.relu(y)
            y = y + torch.relu(y - 100.0)
        elif self.kind == "noisy":
            y = y + 1e-5 * torch.rand(y.shape)
        return self.fc(y.mean((2, 3)))

def build(kind="plain", seed=0):
    torch.manual_seed(seed)
    return Net(kind), torch.randn(2, 3, 8, 8)

class Tokens(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.first = first
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        y = torch.relu(self.fc(x))
        return y.cumsum(1)[:, -1] if self.first is None else y[:, : self.first].sum(1)

def tokens(first=1000):
    torch.manual_seed(0)
    return Tokens(first)
"""

KERAS = """
import keras
from keras import layers

def tokens():
    x = keras.Input((None, 3), name="x")
    y = layers.Dense(4, activation="relu")(x)
    return keras.Model(x, keras.ops.sum(y, 1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "tn.py").write_text(TORCH)
    (folder / "kn.py").write_text(KERAS)
    return folder


PLAIN = ("--no-export", "--device", "cpu", "--json", "-")


def test_other_inputs_and_further_runs_agree(parity, folder, tmp_path):
    net = f"{folder}/tn.py:build"
    done = parity("compare", net, net, "--stress", "--seeds", "2", "--repeat", "2", *PLAIN)
    assert done.code == 0, done.out
    names = [trial["name"] for trial in done.report["trials"]]
    assert names[:3] == ["seed 1", "seed 2", "zeros"]
    assert {"ones", "large", "negative", "impulse", "checkerboard"} <= set(names)
    assert done.report["repeat"]["runs"] == 2
    assert set(done.report["repeat"]["differed"].values()) == {0}
    assert done.report["spread"]


def test_a_fault_that_large_values_alone_show(parity, folder):
    models = f"{folder}/tn.py:build,kind=seven", f"{folder}/tn.py:build,kind=large"
    plain = parity("compare", *models, *PLAIN)
    assert plain.report["levels"]["numerics"] == "pass"
    done = parity("compare", *models, "--stress", *PLAIN)
    assert done.code == 1
    failing = [trial["name"] for trial in done.report["trials"] if trial["status"] == "diverged"]
    assert "large" in failing
    assert "input 'large'" in str(done.report["notes"])


def test_runs_that_change_are_counted(parity, folder):
    net = f"{folder}/tn.py:build,kind=noisy"
    done = parity("compare", f"{folder}/tn.py:build", f"noisy={net}", "--repeat", "3", *PLAIN)
    assert done.report["repeat"]["differed"]["noisy"] == 2
    assert done.report["repeat"]["differed"]["build"] == 0


def test_a_limit_that_no_value_reaches_is_told_and_reached(parity, folder):
    """ReLU6 against a clip at 7 are the same on values below 6."""
    done = parity(
        "compare", f"{folder}/tn.py:build,kind=relu6", f"{folder}/tn.py:build,kind=seven", *PLAIN
    )
    assert done.code == 1
    note = next(str(each) for each in done.report["notes"] if "cannot show" in str(each))
    assert "stops at 6: its input is at most" in note
    assert "also compared on the input ×" in note
    (trial,) = done.report["trials"]
    assert trial["name"].startswith("input ×")
    assert trial["status"] == "diverged"


def test_axes_of_any_length_get_two_sizes(parity, folder):
    """A model that reads the first 16 items alone is another one, which 16 items do not show."""
    keras, torch = f"{folder}/kn.py:tokens", f"{folder}/tn.py:tokens"
    done = parity("compare", keras, torch, "--weights", "keras", *PLAIN)
    assert done.code == 0, done.out
    (trial,) = done.report["trials"]
    assert trial["name"] == "size 1x24x3"
    wrong = parity("compare", keras, f"{torch},first=16", "--weights", "keras", *PLAIN)
    assert wrong.report["trials"][0]["status"] == "diverged"
    assert wrong.code == 1


def test_saved_captures_are_judged_again(parity, folder, tmp_path):
    out, kept = tmp_path / "captures", tmp_path / "kept"
    models = (f"{folder}/tn.py:build", f"b={folder}/tn.py:build,kind=seven")
    done = parity("capture", *models, "--no-export", "--out", out)
    assert done.code == 0, done.err
    assert sorted(each.name for each in out.iterdir()) == [
        "b.safetensors", "build.safetensors", "reference.safetensors",
    ]  # fmt: skip
    compared = parity("compare", *models, "--save-captures", kept, *PLAIN)
    again = parity("diff", kept, kept, "--json", "-")
    for stage, other in zip(compared.report["stages"], again.report["stages"], strict=True):
        assert stage["subjects"] == other["subjects"]
    # The captures of the two commands are of one comparison.
    both = parity("diff", out, kept, "--json", "-")
    assert len(both.report["subjects"]) == 4
    assert parity("capture", *models, "--no-export", "--out", out).code == 0


TWO_OUTPUTS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.fc = nn.Linear(6, 3)
        self.shift = shift

    def forward(self, x):
        y = self.fc(x)
        return y, torch.tanh(y) + self.shift

def build(shift=0.0):
    torch.manual_seed(0)
    return Net(shift).eval()
"""


def test_all_outputs_are_saved_for_polygraphy_and_judged(parity, tmp_path):
    path, run = tmp_path / "two.py", tmp_path / "run.json"
    path.write_text(TWO_OUTPUTS)
    capture = ("capture", "--no-export", "--shape", "x=2x6")
    right = (f"{path}:build", f"same={path}:build")
    done = parity(*capture, *right, "--out", tmp_path / "here", "--polygraphy", run)
    assert done.code == 0, done.err
    runs = read_run_results(run)
    assert set(runs) == {"build", "same"}
    assert [each.shape for each in runs["same"].values()] == [(2, 3), (2, 3)]
    assert parity("diff", tmp_path / "here", run, "--json", "-").code == 0
    wrong = (f"{path}:build", f"shifted={path}:build,shift=0.01")
    assert parity(*capture, *wrong, "--out", tmp_path / "there", "--polygraphy", run).code == 0
    done = parity("diff", tmp_path / "here", run, "--json", "-")
    assert done.code == 1
    assert [each["subjects"] for each in done.report["divergences"]] == [["shifted"]]
    done = parity(
        *capture, *right, "--out", tmp_path / "new", "--polygraphy", tmp_path / "no" / "f"
    )
    assert done.code == 2
    assert "there is no folder" in done.error
    assert not (tmp_path / "new").exists()
