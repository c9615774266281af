"""Who may import what: the contracts in pyproject.toml hold, and each fails when it is broken."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = "A package imports only those before it, and the ground"
CIRCLES = "No circle of imports anywhere"
CLI = "Nobody imports the command line"


def lint(folder):
    """The contracts that are broken in a folder, by name, and the whole output."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    return {line.partition(" BROKEN")[0] for line in lines}, done.stdout + done.stderr


def test_the_contracts_hold():
    broken, output = lint(ROOT)
    assert broken == set()
    assert "0 broken" in output


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the source, in which imports can be added."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("parity", "exporters"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.html")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        ("parity/numerics/floor.py", "import parity.network.table", LAYERS),
        ("parity/network/table.py", "def f():\n    import parity.report.model", LAYERS),
        ("parity/report/model.py", "from parity.commands import compare", LAYERS),
        ("parity/errors.py", "import parity.files", LAYERS),
        ("parity/stray.py", "", LAYERS),
        ("parity/network/rows.py", "import parity.network.table", CIRCLES),
        ("parity/comparison/state.py", "import parity.comparison.runner", CIRCLES),
        ("exporters/graph/edits.py", "import exporters.keras.export", CIRCLES),
        ("parity/numerics/points.py", "import safetensors", "Numerics import NumPy alone"),
        (
            "exporters/graph/edits.py",
            "import parity.network.table",
            "Exporters import parity's numerics alone",
        ),
        (
            "parity/explain/proof/failing_layer.py",
            "import parity.processes.subjects",
            "The proof imports numerics and network alone",
        ),
        ("parity/explain/proof/search.py", "import parity.explain.causes", CIRCLES),
        ("parity/network/kinds/conv.py", "import parity.network.rows", CIRCLES),
        ("parity/comparison/state.py", "import torch", "PyTorch in its homes alone"),
        (
            "parity/network/inputs/_input.py",
            "import keras",
            "Keras and TensorFlow in their homes alone",
        ),
        (
            "parity/runtimes/keras/runtime.py",
            "def f():\n    from torch import nn",
            "PyTorch in its homes alone",
        ),
        (
            "exporters/torch/export.py",
            "import onnxruntime",
            "ONNX and ONNX Runtime in their homes alone",
        ),
        ("exporters/torch_onnx.py", "import torch", "PyTorch in its homes alone"),
        ("parity/commands/check.py", "import parity.commands.cli.main", CLI),
    ],
)
def test_a_contract_that_is_broken_is_reported(copied, path, line, contract):
    file = copied / path
    assert file.exists() or path == "parity/stray.py"
    before = file.read_text() if file.exists() else None
    file.write_text(f"{before or ''}\n{line}\n")
    try:
        broken, output = lint(copied)
    finally:
        if before is None:
            file.unlink()
        else:
            file.write_text(before)
    assert contract in broken, output


def foreign_packages(path):
    """The packages that a file imports which are neither Python's own nor the project's."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"parity", "exporters"}


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("numerics", {"numpy"}),
        ("comparison", {"numpy"}),
        ("explain", {"numpy"}),
        ("report", {"rich", "jinja2", "pydantic", "pydantic_core"}),
    ],
)
def test_a_package_needs_no_more_than(folder, allowed):
    files = list((ROOT / "parity" / folder).rglob("*.py"))
    assert files
    assert set().union(*map(foreign_packages, files)) <= allowed


def test_only_the_public_face_and_the_ground_lie_beside_the_packages():
    files = {path.name for path in (ROOT / "parity").glob("*.py")}
    assert files <= {
        "__init__.py",
        "__main__.py",
        "version.py",
        "defaults.py",
        "errors.py",
        "files.py",
        "temporary.py",
        "text.py",
    }
