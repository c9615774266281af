"""Sweeps with the frameworks: what shares a child has the figures that it has alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import parity
from parity.commands.cases import CaseFileParser
from parity.commands.comparison_runner import ComparisonRunner
from parity.commands.toml_lines import TomlLines
from parity.processes.variables import thread_variables
from parity.report import codec
from parity.report.grid import SweepResult
from parity.report.model import Report

pytestmark = pytest.mark.framework

MOBILE = "keras:MobileNetV2,input_shape=(32, 32, 3),classes=10"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as a cell of a sweep has; and a cache of its own would be slow."""
    for name, value in thread_variables(1).items():
        monkeypatch.setenv(name, value)


def figures(report: Report) -> Any:
    """Everything that must be the same bit for bit, wherever and whenever a cell runs."""
    data = codec.to_json(report)
    kept = {key: data[key] for key in ("verdict", "weights", "input", "stages", "levels", "causes")}
    return json.loads(json.dumps(kept))


def sweep(folder: Path, text: str, **options: Any) -> SweepResult:
    (folder / "sweep.toml").write_text(text)
    return parity.sweep(folder / "sweep.toml", **options)


def run_alone(models: list[str], **options: Any) -> Report:
    parser = CaseFileParser(Path("parity.toml"), TomlLines(""))
    request = parser.build_request({"models": models, "device": "cpu", **options})
    with ComparisonRunner() as runner:
        return runner.run(request)


@pytest.mark.slow
def test_cells_that_share_a_child_have_the_figures_that_they_have_alone(tmp_path: Path) -> None:
    text = (
        f'models = ["resnet34", "{MOBILE}", "resnet18", ["keras=resnet18", "torch=resnet18"]]\n'
        'devices = ["cpu"]\ninputs = ["random"]\nimage_size = 32\n'
    )
    found = sweep(tmp_path, text, jobs=1)
    assert [cell.problem for cell in found] == [None] * 4
    assert found.ok
    size = {"input": "random", "image_size": (32, 32)}
    for position, models in ((1, [MOBILE]), (2, ["resnet18"])):
        alone = run_alone(models, **size)
        shared = found.cells[position].report
        assert shared is not None
        assert figures(shared) == figures(alone)
    again = sweep(tmp_path, text)
    assert all(cell.is_stored for cell in again)
    assert again.seconds < 10


NET = """
import torch
from torch import nn
from scale import SCALE

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(x) * SCALE

def build():
    return Net().eval(), torch.ones(1, 8)
"""


def test_a_changed_module_of_the_user_is_seen(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "scale.py").write_text("SCALE = 2.0\n")
    text = 'models = ["net.py:build"]\ndevices = ["cpu"]\nexport = false\n'
    first = sweep(tmp_path, text)
    assert first.cells[0].problem is None
    assert sweep(tmp_path, text).cells[0].is_stored
    (tmp_path / "scale.py").write_text("SCALE = 3.0\n")
    second = sweep(tmp_path, text)
    assert not second.cells[0].is_stored
    (tmp_path / "scale.py").write_text("SCALE = 2.0\n")
    assert sweep(tmp_path, text).cells[0].is_stored
