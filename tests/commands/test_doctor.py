"""What a machine has: the GPU without a framework, packages without an import, the doctor."""

from __future__ import annotations

import json
import sys

import pytest

from parity.commands import doctor
from parity.commands.cli import main as cli
from parity.errors import InterpreterError, RequirementError
from parity.processes import gpus, origin, probe
from parity.processes.child import Child
from tests.fakes.driver import Driver


def test_the_gpu_as_its_driver_tells_it():
    gpu = gpus.find_gpu(lambda name: Driver(gpus=2))
    assert (gpu.name, gpu.count, gpu.cuda, gpu.driver) == (
        "NVIDIA Fake 100", 2, "13.2", "580.65.06",
    )  # fmt: skip
    assert str(gpu) == "NVIDIA Fake 100 (1 of 2), 80 GiB, driver 580.65.06, CUDA 13.2"


def test_a_gpu_without_the_management_library():
    def load(name):
        if name != gpus.DRIVER:
            raise OSError(name)
        return Driver()

    assert gpus.find_gpu(load).driver is None


@pytest.mark.parametrize(
    ("driver", "visible", "told"),
    [
        (None, None, "no NVIDIA driver (libcuda.so.1 cannot be loaded)"),
        (Driver(init=100), None, "no GPU: the NVIDIA driver finds none"),
        (Driver(init=100), "", "CUDA_VISIBLE_DEVICES='' hides all"),
        (Driver(gpus=0), None, "no GPU: the NVIDIA driver finds none"),
        (Driver(init=804), None, "does not start (cuInit error 804)"),
    ],
)
def test_why_there_is_no_gpu(monkeypatch, driver, visible, told):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    def load(name):
        if driver is None:
            raise OSError(name)
        return driver

    with pytest.raises(RequirementError) as raised:
        gpus.find_gpu(load)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("runtime", "found", "gpu_too", "told"),
    [
        ("torch", {"versions": {"torch": "2.13.0+cpu"}}, False, []),
        (
            "torch", {"versions": {"torch": "2.13.0+cpu"}}, True,
            ["torch: torch 2.13.0+cpu is a CPU build; pip install a CUDA build"],
        ),
        ("keras", {"versions": {"tensorflow": "2.21.0"}, "cuda": "12.5.1"}, True, []),
        (
            "keras",
            {
                "versions": {"tensorflow": "2.21"},
                "cuda": "12.5.1",
                "missing_libraries": ["libcudnn.so.9"],
            },
            True,
            ["built for CUDA 12.5.1; not found: libcudnn.so.9;"],
        ),
        (
            "onnx", {"missing": ["onnxruntime"]}, True,
            [f"onnxruntime not installed; {origin.install_command('onnx')}"],
        ),
        (
            "onnx", {"conflicts": ["onnxruntime 1 and onnxruntime-gpu 1 are both installed"]},
            True, ["onnx: onnxruntime 1 and onnxruntime-gpu 1 are both installed"],
        ),
    ],
)  # fmt: skip
def test_what_is_told_of_a_runtime(runtime, found, gpu_too, told):
    lines = probe.describe_problems(runtime, probe.Installation(**found), gpu=gpu_too)
    assert len(lines) == len(told)
    for line, part in zip(lines, told, strict=True):
        assert part in line


def test_two_onnxruntimes_together(monkeypatch, tmp_path):
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 9.9\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = probe.probe_runtime("onnx").conflicts
    assert "onnxruntime 9.9 and onnxruntime-gpu 9.9 are both installed" in line
    assert "uninstall both" in line


def test_libraries_that_are_in_no_package(monkeypatch, tmp_path):
    folder = tmp_path / "nvidia" / "cudnn" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudnn.so.9").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    absent = probe.missing_cuda_libraries("12.5.1")
    assert "libcudnn.so.9" not in absent
    assert probe.missing_cuda_libraries("99.0") == ()


def test_the_probe_of_another_interpreter(tmp_path):
    assert probe.probe_interpreter("torch", sys.executable) == probe.probe_runtime("torch")
    with pytest.raises(InterpreterError, match="cannot start"):
        probe.probe_interpreter("torch", str(tmp_path / "python"))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo '/usr/bin/python: No module named parity' >&2; exit 1", "has no parity; install it"),
        ('echo \'{"parity": "0.0.1"}\'', "has parity 0.0.1, this is"),
        ("echo oh no >&2; exit 1", "failed: oh no"),
    ],
)
def test_an_interpreter_that_does_not_fit(tmp_path, script, told):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(InterpreterError) as raised:
        probe.probe_interpreter("torch", str(python))
    assert told in str(raised.value)


def test_no_gpu_is_told_at_once_for_every_runtime(monkeypatch, capsys):
    def none(load=None):
        raise RequirementError("no NVIDIA driver")

    monkeypatch.setattr(gpus, "find_gpu", none)
    monkeypatch.setattr(Child, "_start", lambda child: pytest.fail("a framework is started"))
    assert cli.main(["doctor", "--device", "gpu"]) == 3
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing")]
    assert [line.split()[1] for line in told] == ["keras:", "torch:", "onnx:"]
    assert all("no NVIDIA driver" in line for line in told)


def _status(**changes):
    statuses = [doctor.RuntimeStatus("torch", "3.12", missing=changes.pop("missing", ()))]
    facts = {"path": "/c", "bytes": 0, "writable": changes.pop("writable", True)}
    facts["problem"] = changes.pop("problem", None)
    return doctor.MachineStatus({}, "auto", "none", facts, statuses)


def test_the_exit_code_is_3_when_something_is_missing():
    assert _status().exit_code == 0
    assert _status(missing=["torch: not installed"]).exit_code == 3
    assert _status(writable=False).exit_code == 3


@pytest.mark.framework
def test_the_doctor_finds_everything(capsys):
    assert cli.main(["doctor", "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["runtime"] for each in found["runtimes"]] == ["keras", "torch", "onnx"]
    flags = {each["runtime"]: each["flags"] for each in found["runtimes"]}
    assert flags["keras"]["tensor_float_32"] is False
    assert flags["torch"]["torch.backends.cudnn.allow_tf32"] is False
    assert not found["missing"]


@pytest.mark.framework
def test_a_runtime_that_is_not_there_is_missing(monkeypatch, capsys):
    monkeypatch.setenv("PARITY_RUNTIMES", "tests.fakes")
    monkeypatch.setenv("PYTHONPATH", ".")
    assert cli.main(["doctor"]) == 3
    assert (
        f"absent: No module named 'no_such_framework'; {origin.install_command('absent')}"
        in capsys.readouterr().out
    )
