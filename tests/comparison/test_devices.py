"""Where subjects are placed, what is said where they cannot be, and precision in the verdict."""

from __future__ import annotations

import pytest

import parity
from parity.commands.cli import main as cli
from parity.comparison.placement import DeviceMissing, confirm_placement, plan_placement
from parity.comparison.request import Request
from parity.comparison.runner import Runner
from parity.errors import DeviceMemoryError, RequirementError, UsageError
from parity.processes import gpus
from parity.processes.child import Child
from parity.processes.interpreters import select_interpreter
from parity.processes.subjects import ChildName, keeps_gpu_memory
from parity.processes.variables import child_variables
from parity.runtimes.devices import make_batch_memory_error, require_output_on
from tests.fakes.driver import Driver
from tests.fakes.gpu_children import GpuChildren

ALL = ("keras", "torch", "onnx-keras", "onnx-torch")


def no_driver(name):
    raise OSError(name)


def a_gpu(name):
    return Driver()


def test_auto_without_a_gpu_is_the_cpu_and_says_why():
    placed = plan_placement(Request(model="resnet18"), load_driver=no_driver)
    assert set(placed.devices.values()) == {"cpu"}
    assert not placed.uses_gpu
    assert placed.note == (
        "device auto: on the CPU, since there is no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    )


def test_the_cpu_is_not_looked_into():
    def never(name):
        raise AssertionError("no library is loaded for a run on the CPU")

    placed = plan_placement(Request(model="resnet18", device="cpu"), load_driver=never)
    assert placed.note is None
    assert set(placed.devices.values()) == {"cpu"}


def test_a_gpu_that_is_not_there_is_a_line_for_each_runtime():
    with pytest.raises(DeviceMissing) as raised:
        plan_placement(Request(model="resnet18", device="gpu"), load_driver=no_driver)
    lines = raised.value.lines
    assert [line.partition(":")[0] for line in lines] == ["keras", "torch", "onnx"]
    assert all("no NVIDIA driver" in line for line in lines)
    assert raised.value.exit_code == 3


def test_one_subject_on_the_gpu_is_a_line_for_its_runtime():
    request = Request(model="resnet18", subjects=("torch@cpu", "torch@gpu", "keras"))
    with pytest.raises(DeviceMissing) as raised:
        plan_placement(request, load_driver=no_driver)
    assert [line.partition(":")[0] for line in raised.value.lines] == ["torch"]


def test_a_cpu_build_beside_a_gpu_is_named(gpu_builds):
    gpu_builds["torch"] = {}
    with pytest.raises(DeviceMissing) as raised:
        plan_placement(Request(model="resnet18", device="gpu"), load_driver=a_gpu)
    (line,) = raised.value.lines
    assert line.startswith("torch: torch 1.0 is a CPU build; pip install a CUDA build")


def test_a_missing_library_is_named(gpu_builds):
    gpu_builds["onnx"] = {"cuda": "13.0", "missing_libraries": ["libcudnn.so.9"]}
    with pytest.raises(DeviceMissing, match=r"built for CUDA 13.0; not found: libcudnn.so.9"):
        plan_placement(Request(model="resnet18", device="gpu"), load_driver=a_gpu)


def test_auto_takes_the_gpu_only_if_every_subject_can(gpu_builds):
    placed = plan_placement(Request(model="resnet18"), load_driver=a_gpu)
    assert set(placed.devices.values()) == {"gpu"}
    assert placed.note == "device auto: on the GPU, NVIDIA Fake 100"
    gpu_builds["onnx"] = {}
    placed = plan_placement(Request(model="resnet18"), load_driver=a_gpu)
    assert set(placed.devices.values()) == {"cpu"}
    assert "not every runtime can use the GPU: onnx: onnxruntime 1.0 is a CPU" in placed.note


def test_the_runtimes_have_the_last_word(gpu_builds):
    request = Request(model="resnet18")
    placed = plan_placement(request, load_driver=a_gpu)
    sure = confirm_placement(placed, request, GpuChildren())
    assert set(sure.devices.values()) == {"gpu"}
    assert sure.facts["torch"] == {"card": "NVIDIA Fake 100"}
    fallen = confirm_placement(placed, request, GpuChildren(failing=["torch"]))
    assert set(fallen.devices.values()) == {"cpu"}
    assert fallen.note.endswith("torch: CUDA does not start")


def test_a_runtime_that_was_told_to_use_the_gpu_and_cannot(gpu_builds):
    request = Request(model="resnet18", device="gpu")
    placed = plan_placement(request, load_driver=a_gpu)
    with pytest.raises(DeviceMissing) as raised:
        confirm_placement(placed, request, GpuChildren(failing=["keras", "onnx"]))
    assert len(raised.value.lines) == 2


@pytest.mark.parametrize(
    ("precision", "subjects", "told"),
    [
        ("tf32", ("torch",), "torch: tf32 needs an NVIDIA GPU"),
        ("tf32", ("onnx-torch",), "onnx-torch: tf32 needs an NVIDIA GPU"),
        ("float16", ALL, "ONNX Runtime's CPU provider has no float16 convolution"),
        ("bfloat16", ALL, "ONNX Runtime's CPU provider has no bfloat16 convolution"),
        ("bfloat16", ("keras", "torch"), None),
        ("float32", ALL, None),
    ],
)
def test_a_precision_that_a_device_does_not_have(precision, subjects, told):
    request = Request(model="resnet18", device="cpu", subjects=subjects, precision=precision)
    if told is None:
        plan_placement(request)
        return
    with pytest.raises(UsageError) as raised:
        plan_placement(request)
    assert told in str(raised.value)


def test_the_command_ends_at_once_where_there_is_no_gpu(monkeypatch, capsys):
    def none(load=None):
        raise RequirementError("no NVIDIA driver")

    monkeypatch.setattr(gpus, "find_gpu", none)
    monkeypatch.setattr(Child, "_start", lambda child: pytest.fail("a framework is started"))
    assert cli.main(["compare", "resnext50_32x4d", "--device", "gpu"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for line, runtime in zip(lines, ("keras", "torch", "onnx"), strict=True):
        assert line.startswith(f"error: {runtime}: ")


def test_an_output_elsewhere_than_asked_for_is_no_result():
    assert require_output_on("torch", "gpu", "cuda:0") == {"output": "cuda:0"}
    assert require_output_on("keras", "cpu", "/job:localhost/replica:0/task:0/device:CPU:0")
    with pytest.raises(RequirementError, match="the GPU was requested, but the output is on"):
        require_output_on("torch", "gpu", "cpu")
    with pytest.raises(RequirementError, match="the CPU was requested"):
        require_output_on("keras", "cpu", "/device:GPU:0")


class Small:
    """A runtime whose memory holds so many items."""

    name = "torch"

    def __init__(self, room):
        self.room, self.released = room, 0

    def run(self, count):
        if count > self.room:
            raise MemoryError("out of memory")

    def is_out_of_memory(self, error):
        return isinstance(error, MemoryError)

    def release_memory(self):
        self.released += 1


@pytest.mark.parametrize(
    ("room", "told"),
    [(5, "a batch of 4 fits: --batch 4"), (1, "a batch of 1 fits"), (0, "not even one item fits")],
)
def test_too_little_memory_is_said_with_the_batch_that_fits(room, told):
    small = Small(room)
    error = make_batch_memory_error(small, 16, "gpu", small.run)
    assert isinstance(error, DeviceMemoryError)
    assert "the GPU has too little memory for a batch of 16" in str(error)
    assert told in str(error)
    assert small.released


def test_another_error_while_looking_for_the_batch_is_not_swallowed():
    small = Small(16)
    small.is_out_of_memory = lambda error: False
    with pytest.raises(ZeroDivisionError):
        make_batch_memory_error(small, 16, "gpu", lambda count: 1 / 0)


def test_a_child_without_a_gpu_does_not_see_one():
    hidden = child_variables(ChildName("keras"), own_interpreter=True, gpu=False)
    assert hidden["CUDA_VISIBLE_DEVICES"] == "-1"
    assert hidden["KERAS_BACKEND"] == "tensorflow"
    seen = child_variables(ChildName("keras", "jax"), own_interpreter=True, gpu=True)
    assert seen["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert seen["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert seen["KERAS_BACKEND"] == "jax"
    assert seen.get("CUDA_VISIBLE_DEVICES") != "-1"


def test_the_interpreter_of_a_child():
    python = {"torch": "/t", "old": "/o", "keras[jax]": "/j", "keras": "/k"}
    named = {name: select_interpreter(name, python) for name in (
        "torch", "torch@old", "keras[jax]", "keras[torch]", "onnx",
    )}  # fmt: skip
    assert list(named.values()) == ["/t", "/o", "/j", "/k", None]


SMALL = {"image_size": (64, 64), "classes": 10, "device": "cpu", "seed": 3}


@pytest.mark.framework
def test_bfloat16_is_at_its_own_floor_and_far_from_that_of_float32():
    options = {"subjects": ("torch",), "precision": "bfloat16", **SMALL}
    report = parity.compare("resnet18", **options)
    assert report.verdict == "parity"
    facts = report.subjects["torch"]
    assert (facts.precision, facts.device) == ("bfloat16", "cpu")
    assert facts.proof["output"] == "cpu"
    assert facts.flags["torch.backends.cudnn.conv.fp32_precision"] == "ieee"
    judged = parity.compare("resnet18", judge_as="float32", **options)
    assert judged.verdict == "divergence"
    # bfloat16 rounds 2**16 times as coarsely.
    assert judged.stages[0].subjects["torch"].x_floor > 1000
    (cause,) = judged.causes
    assert cause.cause == "low-precision"
    assert "computes in bfloat16" in cause.message
    assert cause.evidence["x_floor_after"] < 4 < cause.evidence["x_floor_before"]


@pytest.mark.framework
def test_the_same_model_on_three_backends_of_keras():
    pytest.importorskip("jax")
    subjects = ("keras", "keras[jax]", "keras[torch]", "torch")
    report = parity.compare("resnet18", subjects=subjects, **SMALL)
    assert report.verdict == "parity"
    assert list(report.subjects) == list(subjects)
    backends = [facts.backend.split()[0] for facts in report.subjects.values() if facts.backend]
    assert backends == ["tensorflow", "jax", "torch"]
    assert report.subjects["keras[jax]"].flags["jax_default_matmul_precision"] == "float32"
    for stage in report.stages:
        assert all(result.status.passes for result in stage.subjects.values())


@pytest.mark.framework
@pytest.mark.slow
def test_xla_runs_the_whole_model_and_is_told():
    options = {"subjects": ("keras",), "reference": "keras", **SMALL}
    report = parity.compare("resnet18", xla=True, **options)
    assert report.verdict == "parity"
    assert report.subjects["keras"].flags["xla"] is True
    eager = parity.compare("resnet18", **options)
    assert eager.verdict == "parity", eager.subjects["keras"].failure
    assert eager.subjects["keras"].flags["xla"] is False
    # Another order of sums: were nothing compiled, both would be bit for bit the same.
    errors = [r.stages[-1].subjects["keras"].max_abs for r in (report, eager)]
    assert errors[0] != errors[1]


@pytest.mark.framework
def test_one_subject_after_the_other_computes_the_same():
    options = {"subjects": ("torch", "onnx-torch"), **SMALL}
    beside, serial = (parity.compare("resnet18", serial=s, **options) for s in (False, True))
    assert serial.verdict == beside.verdict == "parity"
    for left, right in zip(serial.stages, beside.stages, strict=True):
        assert left.subjects == right.subjects


def test_only_what_keeps_a_gpus_memory_must_give_it_back_by_its_end():
    assert [name for name in ("keras", "keras[jax]", "keras@old", "keras[torch]", "torch", "onnx")
            if keeps_gpu_memory(name)] == ["keras", "keras[jax]", "keras@old"]  # fmt: skip


@pytest.mark.framework
def test_subjects_whose_processes_end_after_each_run_compute_the_same(monkeypatch):
    """What `--serial` does with TensorFlow on a GPU, done here with every subject."""
    options = {"subjects": ("torch", "onnx-torch"), "serial": True, "isolate": True, **SMALL}
    beside = parity.compare("resnet18", **options)
    ended = []
    suspend = Child.suspend
    monkeypatch.setattr(Child, "suspend", lambda child: (ended.append(child.pid), suspend(child)))
    monkeypatch.setattr(Runner, "_must_suspend", lambda *_: True)
    again = parity.compare("resnet18", **options)
    # Each runs twice: from the input on, and every part by itself.
    assert len(set(ended)) == len(ended) == 4
    for left, right in zip(beside.stages, again.stages, strict=True):
        assert left.subjects == right.subjects


@pytest.mark.framework
def test_keras_in_float64_is_tensorflows_alone():
    """On its other backends Keras computes batch normalisation in float32, whatever is asked."""
    options = {**SMALL, "reference": "keras", "semantics": True}
    report = parity.compare("resnet18", subjects=("keras[torch]",), **options)
    assert report.verdict == "parity"
    versions = report.environment["versions"]
    assert "tensorflow" in versions["keras"]
    (note,) = report.levels["semantics"].messages
    assert note == (
        "keras[torch]: not run in float64: Keras computes batch normalisation in float32 on torch"
    )
    assert report.levels["semantics"].outcome == "skipped"
