"""Operations that differ between two layers are named with both places, and proved by runs."""

from __future__ import annotations

import pytest

import parity
from parity.errors import ChildError
from parity.explain import graph_layers

pytestmark = pytest.mark.framework

NET = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.first, self.gate, self.head = nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(8, 3)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        weights, places = torch.topk(F.softmax(self.gate(x), -1), 2)
        if self.fault != "sum":
            weights = weights / weights.sum(-1, keepdim=True)
        mixed = F.one_hot(places, 4).to(x.dtype) * weights.unsqueeze(-1)
        mixed = mixed.sum(-2).repeat_interleave(2, -1)
        y = x if self.fault == "norm" else self.norm(x)
        return self.head(mixed * torch.round(4.0 * y) + x)


def net(fault="none"):
    torch.manual_seed(3)
    return Net(fault), torch.randn(2, 5, 6)
"""


def compare(tmp_path, fault):
    file = tmp_path / "net.py"
    file.write_text(NET)
    right, wrong = f"right={file}:net", f"wrong={file}:net,fault={fault}"
    report = parity.compare(right, wrong, export=False)
    return [each for each in report.causes if each.subject == "wrong"], report


@pytest.mark.parametrize(
    ("fault", "name", "texts"),
    [
        ("sum", "operation-left-out", ["`reduce_sum` (net.py:18) and `div` (net.py:18) are left"]),
        ("norm", "operation-left-out", ["`layer_norm` (net.py:21) is left out before `multiply`"]),
    ],
)
def test_what_differs_is_named(tmp_path, fault, name, texts):
    (cause,), _ = compare(tmp_path, fault)
    assert cause.cause == name
    assert all(text in cause.message for text in texts)
    assert cause.evidence["x_floor_after"] <= 4.0 < cause.evidence["x_floor_before"]
    assert cause.remedy


def test_a_run_that_fails_is_a_note(tmp_path, monkeypatch):
    def fail(*_):
        raise ChildError("no run")

    monkeypatch.setattr(graph_layers, "explain_regions", fail)
    causes, report = compare(tmp_path, "sum")
    assert [each.cause for each in causes] == ["not-explained"]
    assert "the operations of wrong were not compared: no run" in report.notes
