"""A bias and a mask that attention adds to its scores, told apart in any form that users write."""

from __future__ import annotations

import pytest

import parity

pytestmark = pytest.mark.framework

NET = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, form, slope, hidden, shift, scale):
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
        self.head = nn.Linear(32, 5)
        self.form, self.slope, self.hidden = form, slope, hidden or float("-inf")
        self.shift, self.scale = shift, scale

    def attend(self, q, k, v):
        places = torch.arange(9)
        areas = places >= 9 - self.shift
        apart = areas[:, None] != areas
        slopes = self.slope * 2.0 ** -torch.arange(1, 5)
        bias = -(places[:, None] - places).abs() * slopes[:, None, None]
        if self.form == "function":
            added = bias.masked_fill(apart, self.hidden)
            return F.scaled_dot_product_attention(q, k, v, added, scale=self.scale)
        scores = q @ k.transpose(-1, -2) * self.scale + bias
        if self.form == "windows":
            scores = scores.view(1, 2, 4, 9, 9)
            scores = scores + torch.zeros(1, 2, 1, 9, 9).masked_fill(apart, self.hidden)
            scores = scores.view(-1, 4, 9, 9)
        else:
            scores = scores.masked_fill(apart, self.hidden)
        return scores.softmax(-1) @ v

    def forward(self, x):
        x = self.embedding(x)
        q, k, v = (f(x).unflatten(-1, (4, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = self.attend(q, k, v).transpose(1, 2)
        return self.head(x + self.o(y.flatten(2)))


def net(form="fill", slope=1.0, hidden=-100.0, shift=3, scale=8**-0.5):
    torch.manual_seed(0)
    return Net(form, slope, hidden, shift, scale).eval(), torch.randn(2, 9, 8)
"""

MASK = "ides 40 of 81 pairs of query and key, where the reference hides 36 of 81 pairs"
BIAS = "bias that is added to its scores is 2 times the reference's"
FAULTS = {
    "same": ("", ()),
    "mask": ("shift=4", (MASK,)),
    "bias": ("slope=2.0", (BIAS,)),
    "both": ("shift=4,slope=2.0", (MASK, BIAS)),
    "all": ("shift=4,slope=2.0,scale=0.5", (MASK, BIAS, "multiplied by 0.5, not 0.3536")),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("biases") / "net.py"
    path.write_text(NET)
    return path


@pytest.mark.parametrize("hidden", [-100.0, pytest.param(0.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("form", "other"), [("fill", "function"), ("function", "windows")])
def test_a_bias_and_a_mask_between_two_forms(file, form, other, hidden):
    """Swin hides by -100, others by -inf: both are masks, whichever the other model has."""
    own = f"{file}:net,form={other},hidden={hidden}"
    others = [f"{name}={own},{fault}".rstrip(",") for name, (fault, _) in FAULTS.items()]
    report = parity.compare(f"right={file}:net,form={form}", *others, export=False)
    found = {each.subject: each for each in report.causes}
    assert set(found) == {*FAULTS} - {"same"}
    for name, cause in found.items():
        assert cause.evidence["x_floor_after"] <= 4.0
        assert all(text in cause.message for text in FAULTS[name][1]), cause.message
        assert cause.message.count("; and ") == len(FAULTS[name][1]) - 1
