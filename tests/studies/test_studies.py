"""Every study can still be started: its modules import, and its commands explain themselves."""

from __future__ import annotations

import json
import os
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


IMPORTED = [name for name in MODULES if not name.endswith("__main__")]

# A copy of a process that has imported the frameworks, as those of `tests.child_template` are.
_IMPORT_EACH = """
import importlib, json, os, sys, traceback
import keras, onnx, onnxruntime, torch
errors = {}
for name in sys.argv[1:]:
    output, given = os.pipe()
    if os.fork() == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            os.write(given, traceback.format_exc()[-60000:].encode())
        os._exit(0)
    os.close(given)
    with open(output) as stream:
        errors[name] = stream.read()
    _, status = os.wait()
    if status:
        errors[name] += f"status {status}"
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def import_errors():
    """The traceback of each module, or "": some set frameworks' variables or the order of paths,
    so that each is imported in a process of its own."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(
        [sys.executable, "-c", _IMPORT_EACH, *IMPORTED],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.framework
@pytest.mark.parametrize("name", IMPORTED)
def test_a_module_of_a_study_imports_what_there_is(name, import_errors):
    assert not import_errors[name]


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
