"""Each script of examples/ runs, as somebody would run it, in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = [
    path
    for path in sorted(EXAMPLES.glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8") or path.name.startswith("test_")
]


@pytest.mark.framework
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.slow if "train" in path.stem else ())
        for path in SCRIPTS
    ],
)
def test_an_example_runs(path, tmp_path):
    command = [sys.executable, str(path)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{EXAMPLES}"}
    if path.name.startswith("test_"):
        # Neither the options of this project's tests nor its configuration.
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, str(path)]
        if not any(
            each.value == "parity.testing.plugin" for each in entry_points(group="pytest11")
        ):
            command[3:3] = ["-p", "parity.testing.plugin"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_every_example_is_described():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(SCRIPTS) == 5
    for path in SCRIPTS:
        assert f"| `{path.name}` |" in text
