"""The run on a GPU, up to the GPU: without one nothing passes, with one faults are told."""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager

import pytest

from parity.errors import DeviceMemoryError, RequirementError
from parity.processes import gpus, probe
from tests.fakes.gpu_children import GpuChildren
from tests.studies.gpu import __main__ as command
from tests.studies.gpu.bench import SUBJECTS, Bench
from tests.studies.gpu.items import ITEMS, Item, NotRun, WrongResult, attempt
from tests.studies.gpu.record import markdown

GPU = gpus.Gpu("NVIDIA Fake 100", 80 * 2**30, 1, "13.2", "580.65.06")


@pytest.fixture
def no_gpu(monkeypatch):
    def none(load=None):
        raise RequirementError("no NVIDIA driver")

    monkeypatch.setattr(gpus, "find_gpu", none)


def test_without_a_gpu_every_item_is_not_run(no_gpu, tmp_path, capsys):
    assert command.main(["--out", str(tmp_path)]) == 3
    data = json.loads((tmp_path / "record.json").read_text())
    assert data["schema"] == "parity.gpu/1"
    assert len(data["entries"]) == len(ITEMS)
    assert {entry["status"] for entry in data["entries"]} == {"not run"}
    assert {entry["reason"] for entry in data["entries"]} == {"no NVIDIA driver"}
    text = (tmp_path / "record.md").read_text()
    assert "- GPU: no NVIDIA driver" in text
    assert "passed |" not in text
    assert text in capsys.readouterr().out


def test_an_interpreter_that_is_none_is_one_line(capsys):
    assert command.main(["--python", "torch=/no/such"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such interpreter" in line


class Present(Bench):
    """A bench on a GPU where all subjects but those in `absent` can be run."""

    def find_subjects(self, subjects=SUBJECTS):
        self.gpu = GPU


def bench(**absent):
    absent_subjects = {
        SUBJECTS[["keras", "torch"].index(name)]: why for name, why in absent.items()
    }
    return Present("resnet18", 64, {}, absent_subjects)


def outcome(result):
    def run(bench):
        if isinstance(result, Exception):
            raise result
        return result

    return run


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [
        ({"figure": 1}, "passed", None),
        (WrongResult("off by 9x"), "failed", "off by 9x"),
        (NotRun("no kernels"), "not run", "no kernels"),
        (RequirementError("torch: fell back"), "failed", "torch: fell back"),
        (KeyError("x"), "failed", "KeyError: 'x'"),
    ],
)
def test_how_an_item_ends(result, status, reason):
    item = Item("it", ("torch@gpu",), outcome(result))
    assert attempt(item, bench())[:2] == (status, reason)


def test_an_item_whose_runtime_is_missing_is_not_run():
    never = Item("it", ("torch@gpu",), outcome(AssertionError("it was run")))
    status, reason, _ = attempt(never, bench(torch="torch: a CPU build"))
    assert (status, reason) == ("not run", "torch: a CPU build")


def test_the_record_of_a_mixed_run(tmp_path):
    stages = {"stem": {"max_abs": 2.5e-3, "x_floor": 0.81}}
    figures = {"stages": stages, "run_seconds": 0.5, "compare_seconds": 9.0}
    items = [
        Item("torch@gpu in tf32", (), outcome(figures)),
        Item("broken", (), outcome(WrongResult("a | b"))),
        Item("absent", ("keras@gpu",), outcome({})),
    ]
    record = command.run(bench(keras="keras: no libcudnn.so.9"), items)
    assert record.exit_code == 1
    text = markdown(record)
    assert "NVIDIA Fake 100, driver 580.65.06, CUDA 13.2" in text
    assert "| torch@gpu in tf32 | 2.5e-03 (0.81×) | 0.500 | 9.000 |" in text
    assert "a \\| b" in text
    assert "1 passed, 1 failed, 1 not run" in text
    record_of_pass = command.run(bench(), items[:1])
    assert record_of_pass.exit_code == 0


def test_no_item_is_begun_when_the_time_is_up():
    item = Item("late", (), outcome({}))
    (entry,) = command.run(bench(), [item], budget=-1.0).entries
    assert entry.status == "not run"
    assert "no time left" in entry.reason


def test_items_are_selected_by_their_names(no_gpu, tmp_path, capsys):
    folder = tmp_path / "record"
    assert command.main(["--only", "out of", "--only", "doctor", "--out", str(folder)]) == 3
    data = json.loads((folder / "record.json").read_text())
    assert [entry["name"] for entry in data["entries"]] == ["out of memory", "doctor --device gpu"]
    capsys.readouterr()
    assert command.main(["--only", "nothing", "--out", str(tmp_path / "none")]) == 2
    assert "no item has 'nothing'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_only_the_runtimes_that_items_need_are_asked():
    by_name = {item.name: item for item in ITEMS}
    steps = [by_name["one compared training step"]]
    assert command.find_needed_subjects(steps) == ("keras@gpu", "torch@gpu")
    assert command.find_needed_subjects([*steps, by_name["--serial"]]) == SUBJECTS


def test_what_has_been_run_is_recorded_before_the_next_item_begins():
    counts = []
    items = [Item(name, (), outcome({})) for name in ("first", "second")]
    command.run(bench(), items, on_record=lambda record: counts.append(len(record.entries)))
    assert counts == [1, 2]


def test_out_of_memory_must_name_a_batch():
    class Full(Present):
        message = "too little memory; a batch of 64 fits: --batch 64"

        @contextmanager
        def load_child(self, subject, batch):
            message = self.message

            class Child:
                def call(self, operation, **arguments):
                    raise DeviceMemoryError(message)

            yield Child(), {}

    item = next(item for item in ITEMS if item.name == "out of memory")
    full = Full("resnet18", 64)
    full.find_subjects()
    assert attempt(item, full)[0] == "passed"
    full.message = "out of memory"
    assert attempt(item, full)[0] == "failed"


def test_a_subject_whose_reference_has_no_runtime_is_not_run(monkeypatch):
    """Keras on JAX runs without TensorFlow; its reference in float64 does not."""

    class Absent:
        def hello(self):
            raise RequirementError("keras: no TensorFlow")

    class WithoutTensorFlow(GpuChildren):
        def __init__(self, **options):
            super().__init__()

        def __getitem__(self, name):
            return Absent() if name == "keras" else super().__getitem__(name)

    monkeypatch.setattr(gpus, "find_gpu", lambda load=None: GPU)
    monkeypatch.setattr(probe, "describe_problems", lambda *arguments, **options: [])
    monkeypatch.setattr("tests.studies.gpu.bench.Children", WithoutTensorFlow)
    found = Bench("resnet18", 64)
    found.find_subjects()
    assert found.present == ["torch@gpu", "onnx-torch@gpu"]
    assert found.absent["keras[jax]@gpu"] == "keras: no TensorFlow"


class Rehearsal(Present):
    """The items as they are, with the CPU in the GPU's place."""

    def request(self, subjects, **options):
        on_cpu = [name.replace("@gpu", "@cpu") for name in subjects]
        return super().request(on_cpu, **{**options, "classes": 10})

    def compare(self, subjects, **options):
        report = super().compare(subjects, **options)

        def rename_subjects(values):
            return {name.replace("@cpu", "@gpu"): value for name, value in values.items()}

        facts = rename_subjects(report.subjects)
        return dataclasses.replace(
            report,
            subjects={name: dataclasses.replace(f, device="gpu") for name, f in facts.items()},
            stages=tuple(
                dataclasses.replace(
                    stage,
                    subjects=rename_subjects(stage.subjects),
                    pairs=rename_subjects(stage.pairs),
                )
                for stage in report.stages
            ),
        )

    def compare_references(self, references, **options):
        report = super().compare_references(references, **{**options, "device": "cpu"})
        facts = report.subjects.items()
        on_gpu = {name: dataclasses.replace(each, device="gpu") for name, each in facts}
        return dataclasses.replace(report, subjects=on_gpu)

    def export(self, side, path, **options):
        super().export(side, path, **{**options, "classes": 10})

    @contextmanager
    def load_child(self, subject, batch):
        with super().load_child(subject, batch) as (child, arguments):
            yield child, {**arguments, "device": "cpu"}

    @property
    def present(self):
        return ["torch@gpu"]


@pytest.mark.framework
@pytest.mark.parametrize(
    "name",
    [
        "torch@gpu in float32",
        "torch@gpu in bfloat16",
        "three runs are bit for bit the same",
        "--serial",
        pytest.param("two models by reference", marks=pytest.mark.slow),
        "bare forward of torch@gpu",
        pytest.param("export verified on CUDA", marks=pytest.mark.slow),
    ],
)
def test_the_items_on_the_cpu(name):
    item = next(item for item in ITEMS if item.name == name)
    status, reason, figures = attempt(item, Rehearsal("resnet18", 64))
    assert status == "passed", reason
    assert figures


@pytest.mark.framework
def test_a_precision_that_cannot_be_had_is_not_run():
    item = next(item for item in ITEMS if item.name == "torch@gpu in tf32")
    status, reason, _ = attempt(item, Rehearsal("resnet18", 64))
    assert status == "not run"
    assert "tf32 needs an NVIDIA GPU" in reason
