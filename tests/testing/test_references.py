"""`assert_parity` and `parity.compare` on references, and the command that repeats them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

import parity
from parity.errors import InputError, UsageError
from parity.testing import assert_parity
from tests.end_to_end import harness

pytestmark = pytest.mark.usefixtures("shared_children")

RUN = "import sys; from parity.__main__ import main; sys.exit(main())"

TORCH = """
import torch
from torch import nn

class Tagger(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.fc = nn.Linear(6, 3)
        self.scale = scale

    def forward(self, tokens, mask):
        return self.fc(self.embedding(tokens) * mask[..., None]) * self.scale

def build(scale=1.0):
    torch.manual_seed(1)
    example = torch.arange(8).reshape(2, 4), torch.ones(2, 4)
    return Tagger(scale), example
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.setenv("PARITY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "net.py"
    path.write_text(TORCH)
    return path


@pytest.mark.framework
def test_references_that_agree(net):
    assert_parity(f"one={net}:build", f"two={net}:build")


@pytest.mark.framework
def test_several_inputs_and_integers(net):
    """Tokens are used as they are, and a wrong kind of number is refused."""
    inputs = {"tokens": np.array([[10, 0, 3]]), "mask": np.ones((1, 3), np.float32)}
    module = f"{net}:Tagger"
    assert_parity(f"one={module}", f"two={module}", inputs=inputs, weights="one")
    report = parity.compare(f"{net}:build", f"{net}:build,1.0", export=False)
    assert report
    floats = {"tokens": np.zeros((2, 4), np.float32)}
    with pytest.raises(InputError, match="the input 'tokens' takes int64, found float32"):
        assert_parity(f"{net}:build", f"{net}:build,1.0", inputs=floats)


@pytest.mark.framework
def test_the_message_has_a_command_that_runs(net):
    """A head that is scaled by 1.05 is no parity, and `bool(report)` says so."""
    models = f"right={net}:build", f"scaled={net}:build,1.05"
    report = parity.compare(*models, export=False, depth="layer")
    assert not report
    assert bool(report) == report.ok
    with pytest.raises(AssertionError) as raised:
        assert_parity(*models, depth="layer")
    lines = str(raised.value).splitlines()
    assert any(line.startswith("divergence: ") for line in lines)
    command = shlex.split(lines[-1])
    assert command[:2] == ["parity", "compare"]
    assert command[-1] == "report.html"
    repeated = ("parity", *command[1:-2])
    assert repeated == report.command
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command[1:]],
        cwd=net.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(harness.ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (net.parent / "report.html").is_file()


def test_calls_that_contradict():
    with pytest.raises(UsageError, match="give references, or keras=, torch=, onnx= and table="):
        assert_parity("net.py:build", torch=object())
    with pytest.raises(UsageError, match="give input="):
        assert_parity(torch=object(), onnx="model.onnx")
    with pytest.raises(UsageError, match="unknown model 'resnet5'"):
        assert_parity("resnet5", "resnet50")


@pytest.mark.framework
def test_an_input_that_is_no_array_yet(tmp_path, monkeypatch):
    """Lists are arrays of Python's own numbers, which are not cast for the models."""
    monkeypatch.setenv("PARITY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4)\n"
    )
    twin = f"one={tmp_path}/net.py:build", f"two={tmp_path}/net.py:build"
    image = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    assert_parity(*twin, input=image, weights="one")
    with pytest.raises(InputError, match="expected float32, found float64"):
        assert_parity(*twin, input=image.tolist())
