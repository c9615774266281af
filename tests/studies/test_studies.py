"""Every study can still be started: its modules import, and its commands explain themselves."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.studies

ROOT = Path(__file__).resolve().parents[2]

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(tests.studies.__path__, "tests.studies.")
    if not module.ispkg
    and "runtimes" not in module.name
    and not module.name.rpartition(".")[2].startswith("test_")
)


@pytest.mark.framework
@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_a_module_of_a_study_imports_what_there_is(name):
    """In a process of its own: some set the frameworks' variables or the order of paths."""
    process = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.framework
@pytest.mark.parametrize(
    "command",
    [
        *(("-m", name.removesuffix(".__main__")) for name in MODULES if name.endswith("__main__")),
        ("tests/studies/benchmarks/exporters.py",),
        ("tests/studies/benchmarks/diff.py",),
    ],
)
def test_a_command_of_a_study_explains_itself(command):
    process = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert "usage" in process.stdout.lower()
