"""An operation between a layer and the next that one model lacks is named, not where it is read."""

from __future__ import annotations

import pytest

import parity

pytestmark = pytest.mark.framework

NET = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, between, keeps_axes):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Linear(12, 5)
        self.between, self.keeps_axes = between, keeps_axes

    def forward(self, x):
        x = self.b(torch.relu(self.a(x)))
        for name in self.between.split("+"):
            x = {"relu": F.relu, "half": lambda x: x * 0.5, "none": lambda x: x}[name](x)
        return self.head(x.mean((2, 3), keepdim=self.keeps_axes).flatten(1))


def net(between="relu", keeps_axes=False):
    torch.manual_seed(3)
    return Net(between, keeps_axes), torch.randn(2, 3, 12, 12)
"""


@pytest.mark.parametrize(
    ("between", "keeps_axes", "name", "text"),
    [
        ("relu", False, "activation-missing", "relu is not applied to its input"),
        ("relu", True, "activation-missing", "relu is not applied to its input"),
        ("half", False, "scale", "Its input is not multiplied by 0.5"),
    ],
)
def test_what_one_model_lacks_is_named(tmp_path, between, keeps_axes, name, text):
    file = tmp_path / "net.py"
    file.write_text(NET)
    right, wrong = (
        f"{each}={file}:net,between={how},keeps_axes={keeps_axes}"
        for each, how in (("right", between), ("wrong", "none"))
    )
    report = parity.compare(right, wrong, export=False)
    (cause,) = [each for each in report.causes if each.subject == "wrong"]
    assert cause.cause == name
    assert text in cause.message
    assert cause.evidence["x_floor_after"] <= 4.0
