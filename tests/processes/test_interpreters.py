"""Which Python serves which runtime, and how environments are made."""

from __future__ import annotations

import json
import sys

import pytest

from parity.commands.cli import main as cli
from parity.errors import InterpreterError, UsageError
from parity.processes import environments, interpreters
from parity.processes.environments import EnvironmentRequest
from tests import environments as real


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A working folder and a home for environments that are the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARITY_ENVIRONMENTS", str(tmp_path / "environments"))


def environment(folder, name):
    place = folder / name
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").write_text("")
    return place


def test_an_interpreter_or_the_folder_of_one(tmp_path):
    place = environment(tmp_path, "keras")
    found = interpreters.resolve_interpreters([f"keras={place}", f"torch={sys.executable}"])
    assert found == {"keras": str(place / "bin" / "python"), "torch": sys.executable}


def test_parity_toml_is_relative_to_itself_and_outweighed(tmp_path):
    place, other = environment(tmp_path, "k"), environment(tmp_path, "other")
    (tmp_path / "parity.toml").write_text('[environments]\nkeras = "k"\nold = "k"\n')
    found = interpreters.resolve_interpreters([f"keras={other}"], folder=tmp_path)
    assert found == {
        "keras": str(other / "bin" / "python"), "old": str(place / "bin" / "python"),
    }  # fmt: skip


def test_an_environment_of_ones_own_name_is_known(tmp_path):
    for name in ("old", "torch"):
        place = environment(tmp_path / "environments", name)
        (place / interpreters.ENVIRONMENT_MARKER).write_text('{"runtime": "torch", "gpu": false}')
    # One that is named like a runtime serves it only where that is said.
    assert list(interpreters.resolve_interpreters([])) == ["old"]


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        ("keras", UsageError, "expected NAME=PATH"),
        ("=x", UsageError, "expected NAME=PATH"),
        ("keras=/no/such/python", InterpreterError, "no such interpreter"),
        ("keras=.", InterpreterError, "not an environment: it has no bin/python"),
    ],
)
def test_an_interpreter_that_is_none(given, kind, told):
    with pytest.raises(kind, match=told):
        interpreters.resolve_interpreters([given])


@pytest.mark.parametrize("text", ["[environments\n", "[environments]\nkeras = 3\n"])
def test_a_malformed_parity_toml(tmp_path, text):
    (tmp_path / "parity.toml").write_text(text)
    with pytest.raises(UsageError, match=r"parity.toml"):
        interpreters.resolve_interpreters([])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch", EnvironmentRequest("torch", "torch")),
        ("torch==2.9.1", EnvironmentRequest("torch", "torch", "==2.9.1")),
        ("old=torch==2.9.1", EnvironmentRequest("old", "torch", "==2.9.1")),
        ("mine=onnx", EnvironmentRequest("mine", "onnx")),
    ],
)
def test_an_environment_request_is_read(text, expected):
    assert environments.parse_environment_request(text) == expected


@pytest.mark.parametrize("text", ["jax", "old=jax", "torch 2", "", "==1"])
def test_a_malformed_environment_request(text):
    with pytest.raises(UsageError, match="expected keras, torch or onnx"):
        environments.parse_environment_request(text)


@pytest.mark.parametrize("uv", [None, "/usr/bin/uv"])
@pytest.mark.parametrize(
    ("runtime", "gpu", "extra"),
    [("keras", False, "keras"), ("keras", True, "keras-gpu"), ("onnx", True, "onnx-gpu")],
)
def test_the_extras_that_fit_are_installed(tmp_path, uv, runtime, gpu, extra):
    place = tmp_path / "e"
    commands = environments._install_commands(
        EnvironmentRequest("e", runtime, "==1.2"), place, place / "bin" / "python", gpu, uv
    )
    assert all((command[0] == uv) == (uv is not None) for command in commands)
    assert any(f"[{extra}]" in text for text in commands[-1])
    # uv would take the CPU build of PyTorch from the index that pyproject.toml states for it.
    assert ("--no-sources" in commands[-1]) == (gpu and uv is not None)
    package = "onnxruntime" if runtime == "onnx" else runtime
    assert commands[-1][-1] == f"{package}==1.2"


def test_an_environment_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    def broken(request, place, python, gpu, uv):
        place.mkdir(parents=True)
        script = "import sys; print('ERROR: No matching distribution', file=sys.stderr); exit(1)"
        return [[sys.executable, "-c", script]]

    monkeypatch.setattr(environments, "_install_commands", broken)
    with pytest.raises(InterpreterError, match=r"torch: .*No matching distribution"):
        environments.create_environments([EnvironmentRequest("torch", "torch")])
    assert not (tmp_path / "environments" / "torch").exists()


def test_an_environment_that_exists_is_left_alone(tmp_path):
    place = environment(tmp_path / "environments", "torch")
    with pytest.raises(UsageError, match="already exists; remove it first"):
        environments.create_environments([EnvironmentRequest("torch", "torch")])
    assert (place / "bin" / "python").exists()


def test_half_made_and_broken_environments_in_the_list(tmp_path, capsys):
    environment(tmp_path / "environments", "half")
    place = environment(tmp_path / "environments", "broken")
    (place / interpreters.ENVIRONMENT_MARKER).write_text('{"runtime": "torch", "gpu": true}')
    assert cli.main(["env", "list", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["gpu"], found["versions"]) == ("broken", True, None)
    assert "cannot start" in found["problem"]


def test_an_empty_list(capsys):
    assert cli.main(["env", "list"]) == 0
    assert "parity env create" in capsys.readouterr().out


def test_an_environment_that_nobody_named(capsys):
    assert cli.main(["compare", "resnet18", "--subjects", "torch@old"]) == 2
    assert "there is no environment 'old'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("worker", "told"),
    [
        ("echo \"/x/python: No module named 'parity'\" >&2; exit 1", "has no parity; install it"),
        (
            "read line; echo '{\"id\": 1, \"result\": {\"parity\": \"0.0.1\"}}'; sleep 5",
            "has parity 0.0.1, this is",
        ),
    ],
)  # fmt: skip
def test_an_interpreter_that_does_not_fit_ends_with_one_line(tmp_path, capsys, worker, told):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{worker}\n")
    python.chmod(0o755)
    arguments = ["--subjects", "torch", "--image-size", "64", "--device", "cpu"]
    assert cli.main(["compare", "resnet18", *arguments, "--python", f"torch={python}"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.slow
def test_real_environments(tmp_path):
    real.check_environments(tmp_path)
