"""A part that is written differently is not told as the cause of what differs elsewhere."""

from __future__ import annotations

import pytest

import parity
from parity.comparison.graphs import isolation
from parity.errors import ChildError

pytestmark = pytest.mark.framework

NET = """
import torch
from torch import nn
from torch.nn import functional as F


class Norm(nn.Module):
    def __init__(self, other):
        super().__init__()
        self.weight, self.other = nn.Parameter(torch.rand(8) + 0.5), other

    def forward(self, x):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        if self.other:
            return x * scale * self.weight
        return self.weight * x * scale


class Net(nn.Module):
    def __init__(self, other, fault):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.one, self.two = Norm(other), Norm(other)
        self.other, self.fault = other, fault

    def forward(self, x):
        x = torch.tanh(self.first(x))
        if self.other:
            # The same largest of three neighbours, of which the last ones are cut off.
            pooled = F.max_pool1d(F.pad(x, (1, 2), value=-torch.inf), 3, 1)[..., :-1]
            x = torch.where(x <= 0, 0.5 * x, x) + pooled
        else:
            pooled = F.max_pool1d(x, 3, 1, 1)
            x = torch.where(x > 0, x, 0.5 * x) + pooled
        x = x + F.gelu(self.second(self.one(x)), approximate="tanh" if self.fault else "none")
        return self.head(self.two(x))


def net(other=False, fault=False):
    torch.manual_seed(3)
    return Net(other, fault), torch.randn(2, 5, 6)
"""


def compare(tmp_path, other, fault):
    file = tmp_path / "net.py"
    file.write_text(NET)
    right, wrong = f"right={file}:net", f"wrong={file}:net,other={other},fault={fault}"
    return parity.compare(right, wrong, export=False)


def test_what_is_written_differently_alone_is_parity(tmp_path):
    assert compare(tmp_path, other=True, fault=False).ok


def test_the_fault_is_named_and_no_part_that_is_written_differently(tmp_path):
    report = compare(tmp_path, other=True, fault=True)
    assert [each.cause for each in report.causes] == ["gelu-form"]
    assert report.first_divergence.layer == "net.py:35"


def test_without_another_run_the_first_cause_would_be_the_part(tmp_path, monkeypatch):
    def fail(*_):
        raise ChildError("no run")

    monkeypatch.setattr(isolation, "find_rewritings", fail)
    causes = [each.cause for each in compare(tmp_path, other=True, fault=True).causes]
    assert causes[0] != "gelu-form"
    assert "gelu-form" in causes
