"""Where models that references name are placed, and what is said where they cannot be."""

from __future__ import annotations

import pytest

from parity.commands.cli import main as cli
from parity.comparison.graphs.devices import list_device_requests, plan_devices
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.placement import DeviceMissing, DeviceRequest, confirm_devices
from parity.errors import RequirementError, UsageError
from parity.processes import gpus
from parity.processes.child import Child
from tests.fakes.driver import Driver
from tests.fakes.gpu_children import GpuChildren

TORCH = "import torch\ndef build(): ...\ndef other(): ...\n"
KERAS = "import keras\ndef build(): ...\n"


@pytest.fixture(autouse=True)
def _scripts(tmp_path, monkeypatch):
    """Scripts that are parsed and never run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(TORCH)
    (tmp_path / "keras_net.py").write_text(KERAS)
    (tmp_path / "deployed.onnx").write_bytes(b"\x08\x08")


def no_driver(name):
    raise OSError(name)


def a_gpu(name):
    return Driver()


def request(*references, **fields):
    return GraphRequest(references=references, **fields)


def test_the_models_and_their_exports_are_placed():
    wanted = list_device_requests(request("net.py:build", "keras_net.py:build"))
    assert {(each.name, each.runtime) for each in wanted} == {
        ("torch", "torch"),
        ("keras", "keras"),
        ("onnx-torch", "onnx"),
        ("onnx-keras", "onnx"),
    }
    two = list_device_requests(request("net.py:build", "net.py:other", "deployed.onnx"))
    assert [each.name for each in two] == ["build", "other", "onnx"]
    alone = list_device_requests(request("net.py:build", export=False, device="gpu"))
    assert alone == [DeviceRequest("torch", "torch", "torch", "gpu")]


def test_a_subject_has_its_own_device():
    chosen = request("net.py:build", "keras_net.py:build", subjects=("torch@gpu", "keras"))
    assert [(each.name, each.device) for each in list_device_requests(chosen)] == [
        ("torch", "gpu"),
        ("keras", "auto"),
    ]


def test_auto_without_a_gpu_is_the_cpu_and_says_why():
    placed = plan_devices(request("net.py:build"), load_driver=no_driver)
    assert set(placed.devices.values()) == {"cpu"}
    assert placed.note is not None
    assert placed.note.startswith("device auto: on the CPU, since there is no NVIDIA driver")


def test_a_gpu_that_is_not_there_is_a_line_for_each_runtime():
    """Two models of one runtime are one line."""
    with pytest.raises(DeviceMissing) as raised:
        plan_devices(
            request("net.py:build", "net.py:other", "keras_net.py:build", device="gpu"),
            load_driver=no_driver,
        )
    assert [line.partition(":")[0] for line in raised.value.lines] == ["torch", "keras", "onnx"]
    assert raised.value.exit_code == 3


def test_auto_takes_the_gpu_only_if_every_runtime_can(gpu_builds):
    models = request("net.py:build", "keras_net.py:build")
    placed = plan_devices(models, load_driver=a_gpu)
    assert set(placed.devices.values()) == {"gpu"}
    assert placed.note == "device auto: on the GPU, NVIDIA Fake 100"
    gpu_builds["keras"] = {}
    placed = plan_devices(models, load_driver=a_gpu)
    assert set(placed.devices.values()) == {"cpu"}
    assert placed.note is not None
    assert "not every runtime can use the GPU: keras: " in placed.note


def test_the_runtimes_have_the_last_word(gpu_builds):
    """Each model has a child of its own, which is asked."""
    models = request("net.py:build", "net.py:other", export=False)
    placed = plan_devices(models, load_driver=a_gpu)
    wanted = [
        DeviceRequest("build", "torch", "torch", "auto"),
        DeviceRequest("other", "torch", "torch#2", "auto"),
    ]
    children = GpuChildren()
    sure = confirm_devices(placed, wanted, children)
    assert set(sure.devices.values()) == {"gpu"}
    assert set(children.asked) == {"torch", "torch#2"}
    assert sure.facts["torch#2"] == {"card": "NVIDIA Fake 100"}
    fallen = confirm_devices(placed, wanted, GpuChildren(failing=["torch#2"]))
    assert set(fallen.devices.values()) == {"cpu"}
    forced = [DeviceRequest("build", "torch", "torch", "gpu"), wanted[1]]
    with pytest.raises(DeviceMissing, match="torch: CUDA does not start"):
        confirm_devices(placed, forced, GpuChildren(failing=["torch"]))


@pytest.mark.parametrize(
    ("precision", "fields", "expected"),
    [
        ("tf32", {}, "torch: tf32 needs an NVIDIA GPU"),
        ("bfloat16", {}, "onnx-torch: ONNX Runtime's CPU provider has no bfloat16 convolution: "
                         "leave it out (--subjects torch), or use --device gpu"),
        ("bfloat16", {"export": False}, None),
        ("float16", {"subjects": ("torch",)}, None),
        ("float32", {}, None),
    ],
)  # fmt: skip
def test_a_precision_that_a_device_does_not_have(precision, fields, expected):
    models = request("net.py:build", device="cpu", precision=precision, **fields)
    if expected is None:
        plan_devices(models)
        return
    with pytest.raises(UsageError) as raised:
        plan_devices(models)
    assert expected in str(raised.value)


def test_the_command_ends_at_once_where_there_is_no_gpu(monkeypatch, capsys):
    def none(load=None):
        raise RequirementError("no NVIDIA driver")

    monkeypatch.setattr(gpus, "find_gpu", none)
    monkeypatch.setattr(Child, "_start", lambda child: pytest.fail("a framework is started"))
    assert cli.main(["compare", "net.py:build", "keras_net.py:build", "--device", "gpu"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["torch", "keras", "onnx"]
