"""`parity sweep`: its file, what is run again, what it prints and writes, and how it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import parity
from parity.commands import sweep, sweep_file, sweep_store
from parity.commands.cell_address import CellAddresses, describe_hardware, hash_hardware
from parity.commands.cli import main as cli
from parity.commands.comparison_runner import is_shareable
from parity.commands.diff import diff
from parity.errors import InterpreterError, OutputError, RequirementError, UsageError
from parity.processes import probe
from parity.processes.environments import EnvironmentRequest, parse_packages, pinned_folder
from parity.processes.executors.server import run_task
from parity.processes.executors.tasks import Task, TaskOutcome
from parity.processes.references import parse_reference
from parity.processes.script_imports import list_sources
from parity.report import codec, grid_page
from parity.report.model import Report, SubjectFacts, Verdict
from tests.captures import write

ZOO = ("EfficientNetB0", "ResNet50", "ResNet50V2", "ResNet101", "VGG16")


def plan(folder: Path, text: str, name: str = "sweep.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> sweep_file.SweepFile:
    return sweep_file.load(plan(folder, text), list_names=lambda zoo: ZOO)


# The file


def test_the_grid_is_every_combination(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
models = ["resnet18", "keras:ResNet*", ["keras=resnet34", "torch=resnet34"]]
environments = ["here", "torch==2.9.1", {name = "old", packages = ["onnxruntime==1.31.1"]}]
precisions = ["float32", "bfloat16"]
devices = ["cpu"]
inputs = ["random", "photo.jpg"]
image_size = 32
limit = 5
""",
    )
    assert len(found.cells) == len({cell.name for cell in found.cells}) == 5 * 3 * 2 * 2
    assert list(dict.fromkeys(cell.model for cell in found.cells)) == [
        "resnet18",
        "keras:ResNet101",
        "keras:ResNet50",
        "keras:ResNet50V2",
        "keras=resnet34 torch=resnet34",
    ]
    first = found.cells[0]
    assert first.name == "resnet18 | here | cpu | float32 | random"
    assert (first.request.image_size, first.request.limit) == ((32, 32), 5)
    assert {cell.request.input for cell in found.cells} == {"random", tmp_path / "photo.jpg"}
    assert [each.name for each in found.environments] == ["here", "torch==2.9.1", "old"]
    assert [request.packages for request in found.environments[2].requests] == [
        ("onnxruntime==1.31.1",)
    ]


def test_a_file_with_models_alone(tmp_path: Path) -> None:
    (cell,) = load(tmp_path, 'models = ["resnet18"]').cells
    assert cell.name == "resnet18 | here | auto | float32 | photograph"


def test_a_model_that_two_patterns_match_is_one(tmp_path: Path) -> None:
    found = load(tmp_path, 'models = ["keras:ResNet50*", "keras:*50", "resnet1?", "resnet18"]')
    assert [cell.model for cell in found.cells] == [
        "keras:ResNet50",
        "keras:ResNet50V2",
        "resnet18",
    ]


def test_options_behind_a_pattern_are_those_of_each(tmp_path: Path) -> None:
    found = load(tmp_path, 'models = ["keras:ResNet50*,classes=7"]')
    assert [cell.model for cell in found.cells] == [
        "keras:ResNet50,classes=7",
        "keras:ResNet50V2,classes=7",
    ]


def test_files_start_at_the_folder_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef build(): ...\n")
    (cell,) = load(tmp_path, 'models = ["net.py:build"]\ninputs = [{x = "x.npy"}]').cells
    assert cell.request.references == (f"{tmp_path}/net.py:build",)
    assert cell.request.inputs == {"x": tmp_path / "x.npy"}
    assert cell.input == "x=x.npy"


def test_a_zoo_that_is_not_installed_has_its_line(tmp_path: Path) -> None:
    def refuse(zoo: str) -> list[str]:
        raise UsageError(f"'{zoo}:': {zoo} is not installed; pip install {zoo}")

    path = plan(tmp_path, 'models = [\n  "resnet18", "timm:*"]\n')
    with pytest.raises(UsageError, match=r":1: models: 'timm:\*': 'timm:': timm is not installed"):
        sweep_file.load(path, list_names=refuse)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected models, such as"),
        ("models = []", r":1: models: the list is empty, so that the grid has no cell"),
        ('models = ["resnet18"]\ndevices = []', r":2: devices: the list is empty"),
        ('models = "resnet18"', r":1: models: expected a list of models"),
        ("models = [3]", r":1: models: expected a list of models"),
        ('modles = ["resnet18"]', r":1: unknown key 'modles'; did you mean 'models'\?"),
        ('models = ["resnet18"]\n\nimage_sise = 3', r":3: unknown key 'image_sise'.*'image_size'"),
        (
            'models = ["resnet18"]\nprecision = ["float32", "tf32"]',
            r":2: precision: expected one value; a list is precisions",
        ),
        ('models = ["resnet18"]\nimage_size = "x"', r":2: image_size: expected 224"),
        ('models = ["resnet19"]', r":1: models: resnet19: unknown model 'resnet19'"),
        ('models = ["keras:ResNett*"]', r":1: models: no model matches .*'ResNet50'"),
        ('models = ["a.py:*"]', r":1: models: 'a.py:\*': only names of zoos"),
        ('models = ["timn:resnet*"]', r":1: models: 'timn:resnet\*': only .*did you mean 'timm:'"),
        ('models = [["keras:ResNet*", "resnet18"]]', r":1: models: .* a pattern stands alone"),
        ('models = ["resnet18"]\nenvironments = ["tropch==2.9.1"]', r":2: .*no package of a runt"),
        ('models = ["resnet18"]\nenvironments = ["torch 2"]', r":2: .*expected PACKAGE==VERSION"),
        ('models = ["resnet18"]\nenvironments = ["here", "here"]', r":2: .*two are called 'here'"),
        (
            'models = ["resnet18"]\nenvironments = [{nam = "x"}]',
            r":2: .*'nam'; did you mean 'name'",
        ),
        ('models = ["resnet18"]\nprecisions = ["float23"]', r"--precision: expected one of"),
        (
            'models = ["resnet18"]\ndevices = ["cpu", "cpu"]',
            r":2: devices: an entry is given twice",
        ),
        (
            'models = ["resnet18"]\ndevices = ["cpu"]\ndevice = "cpu"',
            r":3: device: devices is given",
        ),
        (
            'models = ["resnet18"]\nthreads = 0',
            r":2: threads: expected a whole number of at least 1",
        ),
        (
            'models = ["resnet18"]\nlock_factor = "x"',
            r":2: lock_factor: expected a number of at le",
        ),
        (
            'models = ["resnet18"]\nshapes = {x = "1x3"}',
            r":1: .*shapes: belongs to models that are r",
        ),
        ('models = ["keras:VGG16"]\nxla = true', r":1: .*xla: belongs to one architecture"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["models = []", 'models = ["resnet18"]\nprecison = "tf32"', None])
def test_a_bad_file_leaves_no_folder(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "zoo.toml"
    if text is not None:
        path.write_text(text)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError):
        parity.sweep(path)
    assert sorted(tmp_path.iterdir()) == before


# Environments


def test_packages_are_sorted_by_runtime() -> None:
    found = parse_packages("old", ["torch==2.9.1", "onnxruntime==1.31.1", "numpy<2.3"])
    assert {each.runtime: each.packages for each in found} == {
        "torch": ("torch==2.9.1", "numpy<2.3"),
        "onnx": ("onnxruntime==1.31.1", "numpy<2.3"),
    }
    assert [each.runtime for each in parse_packages("x", ["tensorflow==2.20.0"])] == ["keras"]


def test_an_environment_is_named_by_its_content(tmp_path: Path) -> None:
    old = EnvironmentRequest("old", "torch", packages=("torch==2.9.1",))
    place = pinned_folder(old, tmp_path)
    assert place == pinned_folder(dataclasses.replace(old, name="other"), tmp_path)
    assert place != pinned_folder(dataclasses.replace(old, packages=("torch==2.9.0",)), tmp_path)
    assert place != pinned_folder(dataclasses.replace(old, extras=("zoo",)), tmp_path)


# The address of a result


def address(folder: Path, text: str, threads: int = 1) -> str:
    cell = load(folder, text).cells[0]
    return CellAddresses(threads=threads).address(cell.request)


def test_an_address_depends_on_content_and_not_on_places(tmp_path: Path) -> None:
    found = set()
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net.py").write_text("import torch\nimport blocks\ndef build(): ...\n")
        (folder / "blocks.py").write_text("x = 1\n")
        (folder / "x.npy").write_bytes(b"numbers")
        found.add(address(folder, 'models = ["net.py:build"]\ninput = "x.npy"'))
    assert len(found) == 1
    (folder / "blocks.py").write_text("x = 2\n")
    found.add(address(folder, 'models = ["net.py:build"]\ninput = "x.npy"'))
    (folder / "x.npy").write_bytes(b"other numbers")
    found.add(address(folder, 'models = ["net.py:build"]\ninput = "x.npy"'))
    found.add(address(folder, 'models = ["net.py:build,3"]\ninput = "x.npy"'))
    found.add(address(folder, 'models = ["net.py:build,3"]\ninput = "x.npy"\nseed = 1'))
    found.add(address(folder, 'models = ["net.py:build,3"]\ninput = "x.npy"\nseed = 1', threads=2))
    assert len(found) == 6


def test_an_address_depends_on_versions_and_on_this_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'models = ["resnet18"]'
    # PyTorch alone does not depend on ONNX Runtime.
    alone = 'models = ["resnet18"]\nsubjects = "torch"'
    before, before_alone = address(tmp_path, text), address(tmp_path, alone)
    installed = probe.probe_runtime("onnx")

    def newer(runtime: str, python: str | None = None) -> probe.Installation:
        if runtime != "onnx":
            return probe.probe_runtime(runtime)
        return dataclasses.replace(installed, versions={"onnxruntime": "9.9"})

    monkeypatch.setattr(probe, "probe_interpreter", newer)
    assert address(tmp_path, text) != before
    assert address(tmp_path, alone) == before_alone
    monkeypatch.setattr(probe, "source_digest", lambda: "other")
    assert address(tmp_path, alone) != before_alone


def test_what_cannot_change_a_figure_is_not_in_the_address(tmp_path: Path) -> None:
    text = 'models = ["resnet18"]\n'
    assert address(tmp_path, text) == address(tmp_path, text + "timeout = 3.0")


def test_sources_are_those_that_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "nets"
    (package / "parts").mkdir(parents=True)
    for name, text in {
        "nets/__init__.py": "",
        "nets/model.py": "import os, numpy\nfrom .parts import blocks\nfrom nets.tools import f\n",
        "nets/parts/__init__.py": "",
        "nets/parts/blocks.py": "from ..constants import X\nimport broken\n",
        "nets/constants.py": "X = 1\n",
        "nets/tools.py": "",
        "nets/unused.py": "",
        "broken.py": "def (:\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    found = [path.relative_to(tmp_path.resolve()).as_posix() for path in
             list_sources(parse_reference("nets.model:build"))]  # fmt: skip
    assert found == [
        *("broken.py", "nets/__init__.py", "nets/constants.py", "nets/model.py"),
        *("nets/parts/__init__.py", "nets/parts/blocks.py", "nets/tools.py"),
    ]
    assert list_sources(parse_reference("resnet18")) == ()


# Cells that are judged without a framework


class Executor:
    """Runs tasks in this process, with invented reports by model."""

    def __init__(self, reports: dict[str, Any]) -> None:
        self.reports = reports
        self.ran: list[str] = []
        self.stop_after: int | None = None

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def list_machines(self, describe: str) -> list[Any]:
        return [describe_hardware(gpu=False)]

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskOutcome]:
        for task in tasks:
            if self.stop_after is not None and len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(task.key)
            yield run_task(SimpleNamespace(run=self._judge), task)

    def _judge(self, payload: Any) -> dict[str, Any]:
        request = payload.request
        report = self.reports[getattr(request, "model", None) or request.references[0]]
        if isinstance(report, Exception):
            raise report
        return {"report": codec.to_json(report), "hardware": describe_hardware(gpu=False)}


class Judge(SimpleNamespace):
    """The executor, and a function that changes what it finds for a model."""

    executor: Executor
    report: Callable[..., None]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    executor = Executor({})
    monkeypatch.setattr(sweep, "open_executor", lambda on, **_: executor)
    monkeypatch.setenv("PARITY_ENVIRONMENTS", str(tmp_path / "environments"))
    counter = iter(range(1000))

    def report(model: str, found: Any = None, **options: Any) -> None:
        if found is None:
            folder = tmp_path / f"captures{next(counter)}"
            write(folder, **{"model": model, **options})
            found = diff(folder, folder)
        executor.reports[model] = found

    report("resnet18")
    report("resnet34")
    return Judge(executor=executor, report=report)


TWO = 'models = ["resnet18", "resnet34"]\nprecisions = ["float32", "bfloat16"]\nimage_size = 64\n'


def test_only_what_changed_is_run_again(
    tmp_path: Path, judged: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plan(tmp_path, TWO)
    first = parity.sweep(path)
    assert first
    assert (len(first), first.exit_code, len(judged.executor.ran)) == (4, 0, 4)
    assert not any(cell.is_stored for cell in first)
    again = parity.sweep(path)
    assert len(judged.executor.ran) == 4
    assert all(cell.is_stored for cell in again)
    assert [cell.report for cell in again] == [cell.report for cell in first]
    plan(tmp_path, TWO + "seed = 3\n")
    assert len(parity.sweep(path)) == 4
    assert len(judged.executor.ran) == 8
    plan(tmp_path, TWO.replace("resnet34", "resnet18@d2l"))
    judged.report("resnet18@d2l")
    found = parity.sweep(path)
    assert [cell.is_stored for cell in found] == [True, True, False, False]


def test_folders_of_two_people_are_merged_by_copying(tmp_path: Path, judged: Judge) -> None:
    path = plan(tmp_path, TWO)
    other = plan(tmp_path, 'models = ["resnet18"]\nimage_size = 64\n', "other.toml")
    parity.sweep(other, out=tmp_path / "theirs")
    shutil.copytree(tmp_path / "theirs" / "cells", tmp_path / "mine" / "cells")
    found = parity.sweep(path, out=tmp_path / "mine")
    assert [cell.is_stored for cell in found] == [True, False, False, False]
    assert len(judged.executor.ran) == 4


def test_a_sweep_that_was_interrupted_goes_on(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plan(tmp_path, TWO)
    judged.executor.stop_after = 3
    assert cli.main(["sweep", str(path)]) == 3
    said = capsys.readouterr().err
    cells = tmp_path / "sweeps" / "sweep" / "cells"
    assert f"stored in {cells.parent}; the same command goes on from there" in " ".join(
        said.split()
    )
    assert said.rstrip().endswith(
        "interrupted; there is no result, and no incomplete file was left"
    )
    assert len(list(cells.iterdir())) == 3
    judged.executor.stop_after = None
    assert cli.main(["sweep", str(path)]) == 0
    assert "4 of 4 cells agree, 3 stored before" not in capsys.readouterr().err
    assert len(judged.executor.ran) == 4 == len(list(cells.iterdir()))


def test_an_interruption_before_any_cell_has_ended_promises_nothing(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judged.executor.stop_after = 0
    assert cli.main(["sweep", str(plan(tmp_path, TWO))]) == 3
    said = capsys.readouterr().err
    assert "stored" not in said
    assert "interrupted" in said


def test_another_machine_has_results_of_its_own(
    tmp_path: Path, judged: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plan(tmp_path, TWO)
    parity.sweep(path)
    monkeypatch.setattr(
        Executor, "list_machines", lambda *_: [{"machine": "m", "processor": "p", "gpu": None}]
    )
    assert not any(cell.is_stored for cell in parity.sweep(path))
    ours = describe_hardware(gpu=False)
    monkeypatch.setattr(Executor, "list_machines", lambda *_: [{"machine": "m"}, ours])
    assert all(cell.is_stored for cell in parity.sweep(path))


def test_a_damaged_result_is_run_again(tmp_path: Path, judged: Judge) -> None:
    path = plan(tmp_path, TWO)
    parity.sweep(path)
    cells = sorted((tmp_path / "sweeps" / "sweep" / "cells").iterdir())
    cells[0].write_text(cells[0].read_text()[:100])
    cells[1].write_text(cells[2].read_text())
    data = json.loads(cells[3].read_text())
    del data["report"]["stages"]
    cells[3].write_text(json.dumps(data))
    found = parity.sweep(path)
    assert sum(cell.is_stored for cell in found) == 1
    assert len(found.notes) == 3
    assert all("is damaged" in note for note in found.notes)
    assert all(cell.is_stored for cell in parity.sweep(path))


def test_a_cell_that_cannot_be_run_is_not_stored(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judged.report("resnet34", UsageError("photo.jpg: not a picture"))
    path = plan(tmp_path, TWO)
    assert cli.main(["sweep", str(path)]) == 3
    out = capsys.readouterr().out
    assert "resnet34 | here | auto | bfloat16 | photograph\n  not run: photo.jpg: not a pict" in out
    assert "2 of 4 cells agree" in out
    judged.report("resnet34")
    found = parity.sweep(path)
    assert found.ok
    assert sum(cell.is_stored for cell in found) == 2


def test_a_cell_that_could_not_be_decided_is_run_again(tmp_path: Path, judged: Judge) -> None:
    report: Report = judged.executor.reports["resnet18"]
    failed = dataclasses.replace(
        report,
        verdict=Verdict.UNKNOWN,
        subjects={"keras": SubjectFacts("Keras", "cpu", failure="keras: the process died")},
    )
    judged.report("resnet18", failed)
    path = plan(tmp_path, TWO)
    assert parity.sweep(path).exit_code == 3
    judged.report("resnet18")
    found = parity.sweep(path)
    assert [cell.is_stored for cell in found] == [False, False, True, True]
    assert found.exit_code == 0


def test_a_full_disk_loses_no_result(
    tmp_path: Path,
    judged: Judge,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, text: str) -> None:
        raise OutputError(f"{path}: cannot be written: No space left on device")

    path = plan(tmp_path, TWO)
    with monkeypatch.context() as patch:
        patch.setattr(sweep_store.files, "write_text", full)
        assert cli.main(["sweep", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "4 of 4 cells agree" in out
    assert err.count("No space left on device") == 4
    assert not any(cell.is_stored for cell in parity.sweep(path))


def test_two_sweeps_in_one_folder(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plan(tmp_path, TWO)
    with sweep_store.open_store(tmp_path / "out"):
        assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    message = f"another sweep is running in this folder (process {os.getpid()}); wait for it"
    assert message in " ".join(capsys.readouterr().err.split())
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path, judged: Judge) -> None:
    path = plan(tmp_path, TWO)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be a folder"):
        parity.sweep(path, out=tmp_path / "file" / "x")
    assert judged.executor.ran == []


def test_an_environment_that_cannot_be_made(
    tmp_path: Path,
    judged: Judge,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its cells have the installer's reason, and the others are run."""

    def refuse(request: EnvironmentRequest) -> None:
        raise InterpreterError(
            f"{request.name}: the environment cannot be created: ERROR: No matching distribution "
            "found for torch==9.9"
        )

    monkeypatch.setattr(sweep, "ensure_environment", refuse)
    path = plan(tmp_path, 'models = ["resnet18"]\nenvironments = ["here", "torch==9.9"]\n')
    assert cli.main(["sweep", str(path)]) == 3
    out = capsys.readouterr().out
    assert "1 of 2 cells agree" in out
    assert out.count("No matching distribution found for torch==9.9") == 1
    assert len(judged.executor.ran) == 1


def test_a_cluster_is_reached_before_anything_is_installed(
    tmp_path: Path, judged: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Executor) -> Executor:
        raise RequirementError("ray: 10.0.0.1:6379 cannot be reached: Connection refused")

    monkeypatch.setattr(Executor, "__enter__", refuse)
    monkeypatch.setattr(sweep, "ensure_environment", None)
    path = plan(tmp_path, 'models = ["resnet18"]\nenvironments = ["torch==2.9.1"]\n')
    assert cli.main(["sweep", str(path), "--on", "ray:10.0.0.1:6379"]) == 3
    # A malformed file is noticed before that.
    plan(tmp_path, "models = []")
    assert cli.main(["sweep", str(path), "--on", "ray:10.0.0.1:6379"]) == 2


def test_the_worst_cell_decides(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judged.report("resnet34", broken={"keras": "stem.relu"})
    assert cli.main(["sweep", str(plan(tmp_path, TWO))]) == 1
    out = capsys.readouterr().out
    assert "keras differs first at stem.relu" in out
    assert out.splitlines()[0].split() == ["model", "float32", "bfloat16"]
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["resnet18", "resnet34"]


def test_a_lock_decides_on_the_cells_in_it(
    tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    judged.report("resnet34", broken={"keras": "stem.relu"})
    path = plan(tmp_path, TWO)
    assert cli.main(["sweep", str(path), "--update"]) == 0
    assert (tmp_path / "sweep.lock.json").exists()
    assert cli.main(["sweep", str(path)]) == 0
    assert "2 of 4 cells agree" in capsys.readouterr().out
    # A cell that agreed differs now.
    judged.report("resnet18", broken={"keras": "head"})
    shutil.rmtree(tmp_path / "sweeps")
    assert cli.main(["sweep", str(path)]) == 1
    assert "it differs, and agreed when sweep.lock.json was written" in capsys.readouterr().out
    # One that is not in the lock is judged by itself.
    plan(tmp_path, TWO.replace("float32", "float16"))
    judged.report("resnet18")
    found = parity.sweep(path)
    assert found.exit_code == 1
    assert any("2 cells are not in it" in note for note in found.notes)


def test_reports(tmp_path: Path, judged: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    judged.report("resnet34", broken={"keras": "stem.relu"})
    path = plan(tmp_path, TWO)
    names = {form: tmp_path / f"r.{form}" for form in ("json", "jsonl", "html")}
    options = [word for form, file in names.items() for word in (f"--{form}", str(file))]
    assert cli.main(["sweep", str(path), *options]) == 1
    whole = json.loads(names["json"].read_text())
    assert (whole["schema"], whole["verdict"], len(whole["cells"])) == (
        "parity.sweep/1",
        "divergence",
        4,
    )
    reports = [codec.from_json(cell["report"]) for cell in whole["cells"]]
    assert [each.verdict.value for each in reports] == ["parity"] * 2 + ["divergence"] * 2
    lines = [json.loads(line) for line in names["jsonl"].read_text().splitlines()]
    assert [line["model"] for line in lines] == ["resnet18"] * 2 + ["resnet34"] * 2
    assert all("report" not in line and line["schema"] == "parity.sweep-cell/1" for line in lines)
    assert lines[2]["worst"]["subject"] == "keras"
    text = names["html"].read_text()
    pages = sorted((tmp_path / "r-cells").iterdir())
    assert len(pages) == 4
    assert all(f'href="r-cells/{page.name}"' in text for page in pages)
    assert 'class="s0"' in text or 'class="s1"' in text
    assert any(f'class="s{shade}"' in text.partition("<tbody>")[2] for shade in range(4, 8))
    assert text.startswith("<!DOCTYPE html>")
    # Of the same results, the same pages.
    assert cli.main(["sweep", str(path), *options]) == 1
    capsys.readouterr()
    assert cli.main(["sweep", str(path), "--jsonl", "-"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert cli.main(["sweep", str(path), "--html", "-"]) == 2
    assert cli.main(["sweep", str(path), "--json", "-", "--jsonl", "-"]) == 2
    assert "only one report can be printed" in capsys.readouterr().err


def test_the_page_escapes_what_it_shows(tmp_path: Path, judged: Judge) -> None:
    judged.report("resnet34", UsageError("<script>alert('x')</script>"))
    found = parity.sweep(plan(tmp_path, TWO))
    grid_page.write_pages(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_progress_has_a_rate_and_the_time_left(tmp_path: Path, judged: Judge) -> None:
    said: list[str] = []
    parity.sweep(plan(tmp_path, TWO), progress=lambda who, text: said.append(text))
    assert said[-1] == "4 of 4 cells"
    assert any(" a minute, 0:00 left" in text for text in said)


def test_only_published_models_share_children(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\ndef build(): ...\n")
    shared = {
        cell.model.partition("/")[0].partition(":")[0]: is_shareable(cell.request)
        for cell in load(
            tmp_path,
            'models = ["resnet18", "keras:VGG16", ["keras=resnet18", "torch=resnet18"], '
            '"net.py:build", ["resnet18", "torch=net:build"]]',
        ).cells
    }
    assert list(shared.values()) == [True, True, True, False, False]


def test_the_hash_of_a_machine_is_short() -> None:
    assert len(hash_hardware(describe_hardware(gpu=False))) == 8
