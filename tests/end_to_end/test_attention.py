"""One difference in attention that users write out, in any of its forms: the expected name."""

from __future__ import annotations

import pytest

import parity
from parity.explain import region_search, subject_tensors

pytestmark = pytest.mark.framework

NET = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, heads, form, masked, hidden):
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
        self.head = nn.Linear(32, 5)
        self.heads, self.form, self.masked, self.hidden = heads, form, masked, hidden

    def attend(self, q, k, v):
        if self.form == "function":
            seen = None
            if self.hidden:
                seen = (torch.arange(9) < 9 - self.hidden).expand(9, 9)
            return F.scaled_dot_product_attention(q, k, v, seen, is_causal=self.masked)
        length = q.shape[-2]
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if self.masked:
            later = torch.ones(length, length, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        if self.hidden:
            scores = scores + torch.where(torch.arange(length) >= length - self.hidden, -1e9, 0.0)
        return F.dropout(scores.softmax(-1), 0.1, self.training) @ v

    def forward(self, x):
        x = self.embedding(x)
        split = (self.heads, 32 // self.heads)
        if self.form == "einsum":
            q, k, v = (f(x).unflatten(-1, split) for f in (self.q, self.k, self.v))
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * split[1] ** -0.5
            y = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
        else:
            q, k, v = (f(x).unflatten(-1, split).transpose(1, 2) for f in (self.q, self.k, self.v))
            y = self.attend(q, k, v).transpose(1, 2)
        return self.head(x + self.o(y.flatten(2)))


def net(heads=4, form="matmul", masked=False, hidden=0):
    torch.manual_seed(0)
    return Net(heads, form, masked, hidden).eval(), torch.randn(2, 9, 8)
"""

FAULTS = {
    "heads": "heads=2",
    "function-heads": "heads=2,form=function",
    "causal": "masked=True",
    "function-causal": "masked=True,form=function",
    "padding": "hidden=2",
    "function-padding": "hidden=2,form=function",
    "einsum": "form=einsum",
    "einsum-heads": "heads=2,form=einsum",
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    file = tmp_path_factory.mktemp("attention") / "net.py"
    file.write_text(NET)

    def compare(form):
        others = [f"{name}={file}:net,{fault}" for name, fault in FAULTS.items()]
        return parity.compare(f"right={file}:net,form={form}", *others, export=False)

    return {form: compare(form) for form in ("matmul", "einsum", "function")}


EXPECTED = (
    ("heads", "attention-heads", "It has 2 heads of width 16, not 4 of 8"),
    ("function-heads", "attention-heads", "It has 2 heads of width 16, not 4 of 8"),
    ("einsum-heads", "attention-heads", "It has 2 heads of width 16, not 4 of 8"),
    ("causal", "attention-mask", "Queries see no later key"),
    ("function-causal", "attention-mask", "Queries see no later key"),
    (
        "padding",
        "attention-mask",
        "It hides 2 of 9 keys from every query, where the",
    ),
    ("function-padding", "attention-mask", "It hides 2 of 9 keys from every query"),
)


@pytest.mark.parametrize(
    ("form", "subject", "cause", "text"),
    [(form, *each) for form in ("matmul", "einsum", "function") for each in EXPECTED],
)
def test_a_difference_in_attention_is_named(reports, form, subject, cause, text):
    (found,) = [each for each in reports[form].causes if each.subject == subject]
    assert found.cause == cause
    assert text in found.message
    assert found.evidence["x_floor_after"] <= 4.0
    if cause == "attention-heads":
        # The line that splits the features, and not the one that reads the heads.
        split = f"unflatten(-1, split){' for' if 'einsum' in subject else '.transpose'}"
        line = next(at for at, text in enumerate(NET.splitlines(), 1) if split in text)
        assert found.remedy.endswith(f"into 4 heads, in `unflatten (net.py:{line})`")


@pytest.mark.parametrize("form", ["matmul", "einsum", "function"])
def test_the_same_attention_in_another_form_is_in_parity(reports, form):
    assert not [each for each in reports[form].causes if each.subject == "einsum"]
    assert not [each for each in reports[form].divergences if each.subject == "einsum"]


LAYER = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, heads, whole):
        super().__init__()
        self.embedding, self.head = nn.Linear(8, 32), nn.Linear(32, 5)
        self.whole, self.heads = whole, heads
        if whole:
            self.attention = nn.MultiheadAttention(32, heads, batch_first=True)
        else:
            self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x):
        x = self.embedding(x)
        if self.whole:
            return self.head(x + self.attention(x, x, x, need_weights=False)[0])
        split = (self.heads, 32 // self.heads)
        q, k, v = (f(x).unflatten(-1, split).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / split[1] ** 0.5
        y = (scores.softmax(-1) @ v).transpose(1, 2)
        return self.head(x + self.o(y.flatten(2)))


def net(heads=4, whole=False):
    torch.manual_seed(0)
    return Net(heads, whole).eval(), torch.randn(2, 9, 8)
"""


def test_a_model_without_a_row_hides_it_from_no_other(tmp_path):
    """A layer of attention has no projections of its own, so that these are rows of one pair."""
    file = tmp_path / "net.py"
    file.write_text(LAYER)
    right = f"{file}:net"
    report = parity.compare(
        f"right={right}",
        f"wrong={right},heads=2",
        f"layer={right},heads=8,whole=True",
        weights=right,
        export=False,
    )
    found = {each.subject: (each.cause, each.layer) for each in report.causes}
    line = next(at for at, text in enumerate(LAYER.splitlines(), 1) if "@ v)" in text)
    assert found["wrong"] == ("attention-heads", f"net.py:{line}")
    assert found["layer"][1] == "o"
    assert {each.subject: each.layer for each in report.divergences} == {
        "wrong": f"net.py:{line}",
        "layer": "o",
    }


def test_the_memory_for_operations_within_rows_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(subject_tensors, "MAX_WRITTEN_OUT", 1000)
    monkeypatch.setattr(region_search, "MAX_ROWS", 0)
    file = tmp_path / "net.py"
    file.write_text(NET)
    report = parity.compare(f"right={file}:net", f"wrong={file}:net,masked=True", export=False)
    (cause,) = report.causes
    assert cause.cause == "not-explained"
