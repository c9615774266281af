"""Sweeps with the frameworks: what shares a child has the figures that it has alone."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import parity
from parity.commands import sweep_file, zoo_names
from parity.commands.cases import CaseFileParser
from parity.commands.cli import main
from parity.commands.comparison_runner import ComparisonRunner
from parity.commands.toml_lines import TomlLines
from parity.errors import ParityError
from parity.processes.variables import thread_variables
from parity.report import codec
from parity.report.grid import SweepResult
from parity.report.model import Report
from tests.end_to_end import harness

pytestmark = pytest.mark.framework

MOBILE = "keras:MobileNetV2,input_shape=(32, 32, 3),classes=10"


@pytest.fixture
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as a cell of a sweep has."""
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
@pytest.mark.usefixtures("_one_thread")
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


ZOO_PATTERNS = [
    ("keras", "keras:ResNet*", {"ResNet50", "ResNet152V2"}, "keras:ResNt5*", "ResNet50"),
    ("torchvision", "torchvision:resnet*", {"resnet18", "resnet152"}, "torchvision:resnt1*",
     "resnet18"),
    ("timm", "timm:*resnet*", {"resnet18", "seresnet50"}, "timm:resnt1*", "resnet18"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("zoo", "pattern", "some", "wrong", "closest"), ZOO_PATTERNS, ids=[z[0] for z in ZOO_PATTERNS]
)
def test_a_pattern_stands_for_the_models_of_a_zoo_that_is_listed_once(
    zoo: str,
    pattern: str,
    some: set[str],
    wrong: str,
    closest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if importlib.util.find_spec(zoo) is None:
        pytest.skip(f"{zoo} is not installed")
    monkeypatch.setenv("PARITY_CACHE", str(tmp_path / "cache"))
    # The children find what is installed beside this environment's own packages, as it is here.
    names = zoo_names.list_zoo_names(zoo)
    assert some <= set(names)
    monkeypatch.setattr(zoo_names, "Children", None)
    assert zoo_names.list_zoo_names(zoo) == names
    file = tmp_path / "sweep.toml"
    file.write_text(f'models = ["{pattern}"]\nimage_size = 64\n')
    plan = sweep_file.load(file, list_names=zoo_names.list_zoo_names)
    found = [cell.model for cell in plan.cells]
    assert found == sorted(
        f"{zoo}:{n}" for n in names if fnmatch.fnmatchcase(f"{zoo}:{n}", pattern)
    )
    assert {f"{zoo}:{name}" for name in some} <= set(found) < {f"{zoo}:{name}" for name in names}
    # No model matches: one line with the closest names, no child, and no folder of results.
    file.write_text(f'# a grid\nmodels = ["resnet18", "{wrong}"]\n')
    assert main.main(["sweep", str(file)]) == 2
    assert {each.name for each in tmp_path.iterdir()} == {"cache", "sweep.toml"}
    (line,) = capsys.readouterr().err.splitlines()
    assert f"sweep.toml:2: models: no model matches '{wrong}'; did you mean " in line
    assert f"'{closest}'" in line


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
def test_the_models_of_several_zoos_are_compared(tmp_path: Path) -> None:
    models = ["torchvision:mnasnet0_[5],num_classes=5", "timm:lcnet_03?,num_classes=7"]
    models.append("keras:MobileNetV[2]*,input_shape=(32, 32, 3),classes=10")
    installed = [m for m in models if importlib.util.find_spec(m.partition(":")[0]) is not None]
    text = f'models = {json.dumps(installed)}\ndevices = ["cpu"]\ninputs = ["random"]\n'
    found = sweep(tmp_path, f"{text}image_size = 32\n", jobs=1)
    assert [cell.problem for cell in found] == [None] * len(installed)
    assert found.ok
    for cell in found:
        alone = run_alone([cell.model], input="random", image_size=(32, 32))
        assert cell.report is not None
        assert figures(cell.report) == figures(alone)


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


def test_ctrl_c_keeps_the_cells_that_were_run(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "scale.py").write_text("SCALE = 2.0\n")
    models = [f"{tmp_path}/net.py:build", "resnet18"]
    file = tmp_path / "sweep.toml"
    file.write_text(f'models = {json.dumps(models)}\ndevices = ["cpu"]\n')
    cells = tmp_path / "sweeps" / "sweep" / "cells"
    running = harness.start(tmp_path / "scratch", "sweep", file, "--jobs", "1")
    running.wait_for(lambda: cells.is_dir() and list(cells.iterdir()), timeout=120)
    running.wait_for(lambda: "keras" in running.children(), timeout=120)
    running.signal(signal.SIGINT, group=True)
    done = running.finish()
    assert done.code == 3
    note, error = done.err.splitlines()
    assert "the same command goes on from there" in note
    assert error.startswith("error: interrupted")
    assert not done.left
    assert not done.running
    (kept,) = cells.iterdir()
    assert json.loads(kept.read_text())["schema"] == "parity.cell/1"


# On a cluster ------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes with a core each; the head has none."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    found.workers = [found.add_node(num_cpus=1) for _ in range(2)]
    yield found
    found.shutdown()


@pytest.mark.slow
def test_a_sweep_on_ray_is_the_same_though_a_node_is_lost(tmp_path: Path, cluster: Any) -> None:
    text = (
        f'models = ["resnet18", "{MOBILE}"]\ndevices = ["cpu"]\nimage_size = 32\n'
        'inputs = ["random", "photo.png"]\n'
    )
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    here = sweep(tmp_path, text, out=tmp_path / "here")

    def lose_a_node(_: str, said: str) -> None:
        if said.startswith("2 of 4") and len(cluster.workers) == 2:
            cluster.remove_node(cluster.workers.pop(), allow_graceful=False)

    place = f"ray:{cluster.address}"
    there = sweep(tmp_path, text, out=tmp_path / "there", on=place, progress=lose_a_node)
    assert len(cluster.workers) == 1
    assert [cell.problem for cell in there] == [None] * 4
    for one, other in zip(here, there, strict=True):
        assert one.report is not None
        assert other.report is not None
        assert figures(one.report) == figures(other.report)
    assert all(cell.is_stored for cell in sweep(tmp_path, text, out=tmp_path / "there", on=place))
    # The results of one are those of the other.
    assert all(cell.is_stored for cell in sweep(tmp_path, text, out=tmp_path / "there"))


@pytest.mark.slow
def test_check_on_ray_equals_check(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    path = tmp_path / "parity.toml"
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "scale.py").write_text("SCALE = 2.0\n")
    path.write_text(
        '[defaults]\ndevice = "cpu"\ninput = "random"\nimage_size = 32\n[[case]]\n'
        'model = "resnet18"\n[[case]]\nname = "twins"\n'
        'models = ["keras=resnet18", "torch=resnet18"]\n'
    )
    here, there = parity.check(path), parity.check(path, on="ray")
    assert list(here.reports) == list(there.reports)
    assert (here.verdict, here.exit_code) == (there.verdict, there.exit_code)
    for name, report in here.reports.items():
        assert figures(report) == figures(there.reports[name])
    path.write_text('[[case]]\nname = "none"\nmodels = ["net.py:absent"]\n')
    messages = []
    for on in ("local", "ray"):
        with pytest.raises(ParityError) as caught:
            parity.check(path, on=on)
        messages.append((type(caught.value), str(caught.value)))
    assert messages[0] == messages[1]
