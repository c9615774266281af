"""A fault that no cause covers is said to be not explained, never guessed at."""

from __future__ import annotations

import json
import re

import pytest

import parity
from parity.commands.cli import main
from parity.explain.proof import region_statements

pytestmark = pytest.mark.framework

OWN = ("torch=tests.twins.torch_small:build", "--table", "tests/twins/small.csv")
OPTIONS = (*OWN, "--image-size", "32", "--input", "random")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One comparison: its exit code, its text and its JSON."""
    from tests.end_to_end import harness

    folder = tmp_path_factory.mktemp("unexplained")
    path = folder / "report.json"
    ended = harness.parity(
        folder / "scratch", "compare", "keras=tests.twins.keras_small:rippled", *OPTIONS,
        "--json", path, env={"COLUMNS": "400"},
    )  # fmt: skip
    return ended, json.loads(path.read_text())


def test_in_the_text(done):
    ended, _ = done
    assert ended.code == 1
    lines = [line.strip() for line in ended.out.splitlines()]
    told = [line for line in lines if "not explained" in line]
    # The graph computes what its model does, which is one thing that is not explained.
    assert len(told) == 1
    assert told[0].startswith(
        "why: body.relu, keras: not explained: the relu of Keras, and of onnx-keras, differs ("
    )
    # The fingerprint, and what came closest: to go on from.
    assert "relative size" in told[0]
    assert "closest causes, which do not explain it: " in told[0]
    assert "remedy" not in ended.out.lower()


def test_in_the_json(done):
    _, report = done
    assert report["verdict"] == "divergence"
    assert report["first_divergence"]["layer"] == "body.relu"
    (first,) = report["causes"]
    assert (first["layer"], first["subject"]) == ("body.relu", "keras")
    assert first["cause"] == "not-explained"
    # Nothing was proved: there is an error before, and none after.
    assert set(first["evidence"]) == {"x_floor_before"}
    assert first["evidence"]["x_floor_before"] > 1e3
    assert first["message"].startswith("not explained: the relu of Keras, and")
    assert "changes between runs" not in first["message"]


def causes_of(folder, model, subjects="keras,torch"):
    from tests.end_to_end import harness

    path = folder / "report.json"
    harness.parity(
        folder / "scratch", "compare", f"keras=tests.twins.keras_small:{model}", *OPTIONS,
        "--subjects", subjects, "--json", path,
    )  # fmt: skip
    return json.loads(path.read_text())["causes"]


def test_what_changes_between_runs_is_told(tmp_path):
    """A dropout that is on in front of a mean leaves no zeros to know it by."""
    (cause,) = causes_of(tmp_path, "noisy")
    assert (cause["layer"], cause["cause"]) == ("pool", "not-explained")
    assert "its output changes between runs" in cause["message"]


def test_what_is_wired_otherwise(tmp_path):
    """None of it is in the catalogue of causes, and still no matter of which tensor is kept."""
    # A subject that is told where to run is explained like any.
    *wires, add = causes_of(tmp_path, "rewired", "keras@cpu,torch@cpu")
    expected = [
        ("entry.norm", "entry.relu", "entry.conv"),
        ("entry.relu", "entry.conv", "entry.norm"),
        ("body.conv", "entry.norm", "entry.relu"),
    ]
    for cause, (layer, reads, instead) in zip(wires, expected, strict=True):
        assert (cause["layer"], cause["cause"]) == (layer, "reads-another-tensor")
        told = f"It reads the tensor of {reads}, where the reference reads that of {instead}"
        assert told in cause["message"]
    assert (add["layer"], add["cause"]) == ("body.add", "branch-missing")


TWINS = {
    "net.py": """
import torch
from torch import nn


def net(seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3)), torch.randn(1, 3, 8, 8)
""",
    "keras_net.py": """
import keras
from keras import layers


def net():
    keras.utils.set_random_seed(1)
    return keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"),
        layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(4, 1), layers.Permute((3, 1, 2)),
        layers.Flatten(), layers.Dense(3),
    ])
""",
}


@pytest.fixture
def twins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in TWINS.items():
        (tmp_path / name).write_text(text)


def test_models_of_other_weights_have_no_causes_and_their_exports_none(twins):
    """Every layer differs, of the export too: one note says why, with the option."""
    report = parity.compare("net.py:net", "keras_net.py:net")
    assert report.levels["weights"].outcome.value == "fail"
    assert {*report.subjects} == {"torch", "keras", "onnx-keras", "onnx-torch"}
    assert report.subjects["onnx-keras"].failure is None
    assert report.causes == ()
    (note,) = [each for each in report.notes if "--weights" in each]
    assert note.startswith("keras holds other weights than torch: 4 of 4 kernels differ.")


def test_models_of_other_weights_are_not_repaired_and_the_option_is_named(twins, tmp_path, capsys):
    assert main.main(["fix", "net.py:net", "net.py:net,1", "--out", "fixed"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"not repaired: the models differ first at 0; net-2: 8 weights differ, .*; "
        r"--weights (\w+) compares both with those of \1; nothing was written",
        line,
    )
    assert not (tmp_path / "fixed").exists()


MASKED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(6, 3)

    def forward(self, x, mask):
        bias = (1.0 - mask) * -1e4
        if self.factor is not None:
            bias = bias * self.factor
        query, key, value = (
            each(x).view(2, 6, 2, 3).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        attended = (query @ key.transpose(-1, -2) / 3**0.5 + bias).softmax(-1) @ value
        return self.head(attended.transpose(1, 2).reshape(2, 6, 6))


def net(factor=None):
    torch.manual_seed(0)
    mask = torch.ones(2, 1, 1, 6)
    mask[1, ..., 3:] = 0
    return Net(factor), (torch.randn(2, 6, 6), mask)
"""


RIPPLED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, ripples):
        super().__init__()
        self.ripples = ripples
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.first(x)
        if self.ripples:
            x = x + torch.cos(x)
        return self.head(torch.relu(x))


def net(ripples=False):
    torch.manual_seed(0)
    return Net(ripples), torch.randn(2, 6, 6)
"""


def test_an_operation_without_a_partner_is_named_where_nothing_explains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # So that the operations are too many to be stated as the cause.
    monkeypatch.setattr(region_statements, "MAX_NAMED", 0)
    (tmp_path / "rippled.py").write_text(RIPPLED)
    report = parity.compare("rippled.py:net", "wrong=rippled.py:net,ripples=True", export=False)
    assert [each.cause for each in report.causes] == ["not-explained"]
    (note,) = [each for each in report.notes if "no partner" in each]
    assert note.startswith("wrong: ")
    assert "cos in " in note or "cos (" in note
    assert note.endswith("no partner in net")


def test_a_mask_that_is_made_too_small_is_named(tmp_path, monkeypatch):
    """It hides nothing, and adds to the scores."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masked.py").write_text(MASKED)
    report = parity.compare("masked.py:net", "wrong=masked.py:net,1e-4", export=False)
    (cause,) = report.causes
    assert cause.cause == "attention-mask"
    assert "It hides no key, where the reference hides up to 3 of 6 keys" in cause.message


def test_a_mask_that_is_multiplied_by_0_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "masked.py").write_text(MASKED)
    report = parity.compare("masked.py:net", "wrong=masked.py:net,0.0", export=False)
    assert [each.cause for each in report.causes] == ["attention-mask"]
