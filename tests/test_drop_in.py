"""What docs/design.md says is one file or folder to add is no more: a toy of each, dropped in.

An architecture, a cause, a report format and a command. They lie in a copy of the source, since a
child process must find them too. A kind of layer and a runtime have tests of their own:
tests/network/kinds/test_kinds.py and tests/comparison/test_new_runtime.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ARCHITECTURE = {
    "__init__.py": '"""A network of two layers."""\n',
    "spec.py": '''
"""A convolution, a mean and a dense layer."""

from dataclasses import dataclass
from typing import ClassVar

from parity.network.spec import ModelSpec
from parity.network.table import LayerTable, Row, Weight


@dataclass(frozen=True)
class ToySpec(ModelSpec):
    family: ClassVar[str] = "toy"

    def table(self):
        height, width = self.image_size
        image, classes = (4, height, width), self.classes
        conv = (
            Weight("kernel", "conv.weight", "kernel", (4, self.channels, 3, 3)),
            Weight("bias", "conv.bias", "bias", (4,)),
        )
        dense = (
            Weight("kernel", "fc.weight", "kernel", (classes, 4)),
            Weight("bias", "fc.bias", "bias", (classes,)),
        )
        return LayerTable((
            Row("stem.conv", "stem", "conv", "conv", "conv", image, conv),
            Row("stem.relu", "stem", "relu", "relu", "relu", image),
            Row("pool", "pool", "global_avg_pool", "pool", "pool", (4,)),
            Row("logits", "logits", "dense", "fc", "fc", (classes,), dense),
        ))


ARCHITECTURES = (ToySpec("toy", classes=5, image_size=(16, 16)),)
''',
    "torch.py": '''
"""The PyTorch twin."""

import torch
from torch import nn


class Toy(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.conv = nn.Conv2d(spec.channels, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, spec.classes)

    def forward(self, x):
        return self.fc(torch.flatten(self.pool(self.relu(self.conv(x))), 1))


def build(spec):
    return Toy(spec)
''',
    "keras.py": '''
"""The Keras twin, whose mean is scaled by mistake."""

import keras
from keras import layers


def build(spec):
    image = keras.Input((*spec.image_size, spec.channels), name="input")
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = layers.ReLU(name="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Rescaling(1.25, name="scale")(x)
    return keras.Model(image, layers.Dense(spec.classes, name="fc")(x))
''',
}

CAUSE = '''
"""A layer whose input was multiplied by 1.25."""

from parity.explain.proof.case import Candidate
from parity.explain.proof.layer import given

NAME = "toy-scale"


def candidates(case):
    yield Candidate(NAME, given(lambda x: 1.25 * x), "The input is scaled", "remove the scale")
'''

FORMAT = '''
"""The verdict alone, in one line."""

SUFFIX = ".toy"


def text(report):
    return f"{report.model}: {report.verdict}\\n"
'''

COMMAND = '''
"""`parity toy`, as a command."""

import typer

from parity.commands.cli.command import Command


def toy(times: int = 1) -> None:
    """Print a word."""
    typer.echo("toy " * times)


COMMANDS = (Command(toy, place=999, examples=("parity toy --times 2",)),)
'''


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A copy of the source that has a toy of each."""
    copy = tmp_path_factory.mktemp("toys")
    for name in ("parity", "exporters"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    family = copy / "parity" / "network" / "models" / "toy"
    family.mkdir()
    for name, text in ARCHITECTURE.items():
        (family / name).write_text(text)
    (copy / "parity" / "explain" / "causes" / "toy_scale.py").write_text(CAUSE)
    (copy / "parity" / "report" / "formats" / "toy.py").write_text(FORMAT)
    (copy / "parity" / "commands" / "cli" / "toy.py").write_text(COMMAND)
    return copy


def python(copy, *arguments):
    """Run Python on a copy of the source, which comes before whatever is installed."""
    env = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)


def parity(copy, *arguments):
    return python(copy, "-m", "parity.commands.cli.main", *arguments)


def test_an_architecture_is_listed(toys):
    done = parity(toys, "models", "--json")
    assert "toy" in [model["name"] for model in json.loads(done.stdout)], done.stderr


def test_a_command_is_run(toys):
    assert "Print a word." in parity(toys, "--help").stdout
    assert "parity toy --times 2" in parity(toys, "toy", "--help").stdout
    assert parity(toys, "toy", "--times", "2").stdout.split() == ["toy", "toy"]


@pytest.mark.framework
def test_an_architecture_a_cause_and_a_format_are_used(toys):
    done = parity(
        toys, "compare", "toy", "--input", "random", "--device", "cpu", "--no-cache",
        "--json", "report.json", "--toy", "report.toy",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (toys / "report.toy").read_text() == "toy: divergence\n"
    report = json.loads((toys / "report.json").read_text())
    assert set(report["subjects"]) == {"keras", "torch", "onnx-keras", "onnx-torch"}
    (cause,) = report["causes"]
    assert (cause["layer"], cause["cause"]) == ("logits", "toy-scale")
    assert cause["evidence"]["x_floor_after"] < 4 < cause["evidence"]["x_floor_before"]


@pytest.mark.framework
def test_an_architecture_is_compared_through_the_public_api(toys):
    twin = toys / "parity" / "network" / "models" / "toy" / "keras.py"
    lines = ARCHITECTURE["keras.py"].splitlines(keepends=True)
    twin.write_text("".join(line for line in lines if "Rescaling" not in line))
    code = (
        "import parity; "
        "print(parity.compare('toy', input='random', device='cpu', cache=False).verdict)"
    )
    try:
        done = python(toys, "-c", code)
    finally:
        twin.write_text(ARCHITECTURE["keras.py"])
    assert done.stdout == "parity\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("toy",), "No such command 'toy'"),
        (("table", "toy"), "unknown model 'toy'"),
        (("compare", "resnet18", "--toy", "report.toy"), "No such option: --toy"),
    ],
)
def test_without_their_files_none_is_there(arguments, error):
    done = parity(ROOT, *arguments)
    assert done.returncode == 2
    assert error in done.stderr
