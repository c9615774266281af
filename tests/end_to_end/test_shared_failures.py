"""What an export shares with its model is told once, and only that; evidence is complete."""

from __future__ import annotations

import pytest
import torch

import parity

pytestmark = pytest.mark.framework

NETS = """
import torch
from torch import nn


class Gated(nn.Module):
    '''Its second layer reads the second output of an operation.'''

    def __init__(self, bias):
        super().__init__()
        self.first, self.second = nn.Linear(6, 16), nn.Linear(8, 8, bias=bias)
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        gate, value = self.first(x).chunk(2, -1)
        return self.last(torch.relu(gate) * self.second(value))


def gated(bias=True):
    torch.manual_seed(3)
    return Gated(bias), torch.randn(2, 7, 6)


class Counting(nn.Module):
    '''It reads a weight as a number.'''

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.register_buffer("factor", torch.ones(1))

    def forward(self, x):
        return self.layer(x) * float(self.factor)


def counting():
    torch.manual_seed(3)
    return Counting(), torch.randn(2, 6)


class Exported(nn.Module):
    '''Its export has a fault of its own where all that it gives is masked.'''

    def __init__(self, mask=1.0):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(6, 6, bias=mask == 1.0) for _ in range(3))
        self.mask = mask

    def forward(self, x):
        x = torch.relu(self.one(x))
        if self.mask == 0.0 and torch.compiler.is_compiling():
            x = x * 1.5
        return self.three(self.two(x) * self.mask)


def exported(mask=1.0):
    torch.manual_seed(3)
    return Exported(mask), torch.randn(2, 6)
"""

KERAS = """
import keras


def exported():
    x = keras.Input((6,), batch_size=2)
    y = keras.layers.Dense(6, activation="relu", name="one")(x)
    y = keras.layers.Dense(6, name="two")(y)
    return keras.Model(x, keras.layers.Dense(6, name="three")(y))
"""


@pytest.fixture
def nets(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    return file


def test_a_layer_that_reads_a_second_output(nets):
    """Its input is in no capture of the layers: it is asked for before the evidence is made."""
    report = parity.compare(
        f"right={nets}:gated", f"wrong={nets}:gated,bias=False", weights="right", export=False
    )
    causes = {(each.subject, each.cause) for each in report.causes}
    assert causes == {("wrong", "bias")}


def test_a_model_that_reads_a_weight_as_a_number_is_exported_with_the_one_of_now(nets, tmp_path):
    values = {"layer.weight": torch.ones(4, 6), "layer.bias": torch.ones(4)}
    torch.save({**values, "factor": torch.full((1,), 3.0)}, tmp_path / "other.pth")
    report = parity.compare(f"{nets}:counting", weights=tmp_path / "other.pth")
    assert set(report.subjects) == {"torch", "onnx-torch"}
    assert report.ok, str(report)


def test_the_fault_of_an_export_is_told_beside_its_models(nets, tmp_path):
    other = tmp_path / "keras_net.py"
    other.write_text(KERAS)
    report = parity.compare(
        f"keras={other}:exported", f"torch={nets}:exported,mask=0.0", weights="random"
    )
    found = {(each.subject, each.layer) for each in report.causes}
    # What both lack in the first layer and the mask before the third are told once.
    assert found == {("torch", "one"), ("torch", "three"), ("onnx-torch", "two")}
    lines = [m for m in report.levels["structure"].messages if "bias" in m]
    assert not [line for line in lines if line.startswith("onnx-torch")]
