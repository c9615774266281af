"""`parity fix` by the changes around a line, and the float64 criterion for rounded constants."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from parity.commands import fix
from parity.commands.fix import Repaired, fix_models
from parity.comparison.graphs.request import GraphRequest

pytestmark = pytest.mark.framework

NET = """
import numpy as np
import torch
from torch import nn

ANGLES = np.arange(8.0) / 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 8)
        self.other = nn.Linear(8, 8)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.tanh(self.one(x)) * torch.cos(torch.arange(8.0) / 3)
        y = self.other(x)
        a, b = torch.sigmoid(y).chunk(2, dim=1)
        feats = [a * torch.sin(b), b]
        x = a + 2.0 * torch.tanh(feats[0] / 2.0)
        return self.head(x)


def net():
    torch.manual_seed(5)
    return Net(), torch.zeros(2, 6)
"""
COMPUTED = "torch.cos(torch.arange(8.0) / 3)"
ROUNDED = "torch.from_numpy(np.cos(ANGLES).astype(np.float32))"


def run_fix(tmp_path: Path, right: str, wrong: str) -> Repaired:
    (tmp_path / "right.py").write_text(right)
    (tmp_path / "wrong.py").write_text(wrong)
    names = (f"right={tmp_path}/right.py:net", f"wrong={tmp_path}/wrong.py:net")
    return fix_models(GraphRequest(names, export=False), tmp_path / "out", every=True)


def apply(tmp_path: Path, result: Repaired) -> str:
    assert result.accepted, result.remaining
    (patch,) = result.files
    subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)
    return (tmp_path / "wrong.py").read_text()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("a, b = torch.sigmoid", "b, a = torch.sigmoid", marks=pytest.mark.slow),
        pytest.param("2.0 * torch.tanh(feats[0] / 2.0)", "torch.tanh(feats[0])",
                     marks=pytest.mark.slow),
        pytest.param("feats[0]", "feats[1]", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_slip_that_is_no_value(tmp_path, right, wrong):
    result = run_fix(tmp_path, NET, NET.replace(right, wrong))
    assert apply(tmp_path, result) == NET
    assert not result.shares_constants


@pytest.mark.slow
def test_a_repair_beside_a_rounded_table_is_accepted(tmp_path):
    rounded = NET.replace(COMPUTED, ROUNDED)
    result = run_fix(tmp_path, NET, rounded.replace("a, b = torch", "b, a = torch"))
    assert apply(tmp_path, result) == rounded
    assert result.shares_constants


@pytest.mark.slow
def test_a_difference_that_float32_hides_is_refused(tmp_path):
    hidden = NET.replace(COMPUTED, ROUNDED).replace(
        "return self", "x = x + 1e-9\n        return self"
    )
    result = run_fix(tmp_path, NET, hidden.replace("a, b = torch", "b, a = torch"))
    assert not result.accepted
    assert result.files == ()
    assert "float64" in result.remaining


def test_the_search_ends_at_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(fix, "MAX_RUNS", 0)
    monkeypatch.setattr(fix, "MAX_COMPARISONS", 0)
    result = run_fix(tmp_path, NET, NET.replace("a, b = torch", "b, a = torch"))
    assert not result.accepted
    assert "ended at its limit" in result.remaining
