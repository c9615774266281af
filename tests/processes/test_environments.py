"""Environments that are named by their content: made once, and again after a failure."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from parity.errors import InterpreterError, UsageError
from parity.processes import environments
from parity.processes.environments import (
    EnvironmentRequest,
    ensure_environment,
    parse_packages,
    pinned_folder,
)
from parity.processes.file_lock import lock_file, read_owner

OLD = EnvironmentRequest("old", "torch", packages=("torch==2.9.1",), extras=("zoo",))


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An installer that notes its commands, and makes a folder with a Python."""
    found = SimpleNamespace(commands=[], error="")

    def run(command: list[str], **_: object) -> SimpleNamespace:
        found.commands.append(command)
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        elif found.error:
            return SimpleNamespace(returncode=1, stderr=f"Looking\nERROR: {found.error}\n")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(environments, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(environments, "_add_versions", lambda environment: environment)
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    return found


def test_an_environment_is_made_once(tmp_path: Path, installer: SimpleNamespace) -> None:
    python, seconds = ensure_environment(OLD, folder=tmp_path)
    assert python == pinned_folder(OLD, tmp_path) / "bin" / "python"
    assert seconds > 0
    install = installer.commands[1]
    assert install[-1] == "torch==2.9.1"
    assert any("[torch,zoo]" in word for word in install)
    assert ensure_environment(dataclasses.replace(OLD, name="other"), folder=tmp_path)[0] == python
    assert len(installer.commands) == 2


def test_one_that_failed_is_tried_again(tmp_path: Path, installer: SimpleNamespace) -> None:
    installer.error = "No matching distribution found for torch==2.9.1"
    with pytest.raises(InterpreterError) as caught:
        ensure_environment(OLD, folder=tmp_path)
    assert str(caught.value) == (
        "old: the environment cannot be created: ERROR: No matching distribution found for "
        "torch==2.9.1"
    )
    assert not pinned_folder(OLD, tmp_path).exists()
    installer.error = ""
    ensure_environment(OLD, folder=tmp_path)


def test_what_a_killed_installation_left_is_replaced(
    tmp_path: Path, installer: SimpleNamespace
) -> None:
    place = pinned_folder(OLD, tmp_path)
    (place / "lib").mkdir(parents=True)
    ensure_environment(OLD, folder=tmp_path)
    assert not (place / "lib").exists()


@pytest.mark.parametrize(
    "text",
    ["torch 2.9", "torch=2.9", "--index-url=x", "torch==2.9; x", "torch @ file:x", "-e .", ""],
)
def test_what_is_no_requirement(text: str) -> None:
    with pytest.raises(UsageError, match="expected PACKAGE==VERSION"):
        parse_packages("x", [text])


def test_packages_of_no_runtime() -> None:
    with pytest.raises(UsageError, match="no package of a runtime; known: "):
        parse_packages("x", ["numpy==2.0"])
    with pytest.raises(UsageError, match="no package of a runtime; did you mean 'onnxruntime'"):
        parse_packages("x", ["onnxruntme==1.31.1"])


def test_a_lock_is_that_of_one_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; from pathlib import Path; from parity.processes.file_lock import lock_file\n"
        f"with lock_file(Path({str(path)!r}), wait=False): print('mine')"
    )
    with lock_file(path):
        assert read_owner(path).isdecimal()
        with pytest.raises(BlockingIOError), lock_file(path, wait=False):
            pass
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "BlockingIOError" in done.stderr
    assert read_owner(tmp_path / "absent") == ""
    with lock_file(path, wait=False):
        pass
