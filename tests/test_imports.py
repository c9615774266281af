"""Who may import what (DESIGN: "Where things live"), over the source and in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HOMES = {
    "torch": (
        "parity/runtimes/torch/*.py",
        "parity/network/models/*/torch.py",
        "exporters/torch_onnx*.py",
    ),
    "keras": (
        "parity/runtimes/keras/*.py",
        "parity/network/models/*/keras.py",
        "exporters/keras_onnx*.py",
    ),
    "tensorflow": ("parity/runtimes/keras/*.py", "exporters/keras_onnx*.py"),
    "tf2onnx": ("exporters/keras_onnx*.py",),
    "onnxscript": ("exporters/torch_onnx*.py",),
    "onnxruntime": ("parity/runtimes/onnx/*.py", "exporters/verify.py"),
    "onnx": ("parity/runtimes/*/*.py", "parity/runtimes/*.py", "exporters/*.py"),
    "parity": ("parity/*.py", "parity/**/*.py"),
}
"""The files that may import a package; a package that is not here may be imported anywhere."""

JUDGES = {"numpy", "parity"}
"""Beside the standard library, all that the verdict sees."""

REPORTERS = JUDGES | {"rich", "jinja2"}
"""What the reports see: their own libraries too, but no framework."""

SOURCES = sorted(
    str(path.relative_to(ROOT)) for folder in ("parity", "exporters")
    for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip


def imports(source):
    """The top-level packages that a module's text imports, wherever in it, but not for types."""
    skipped = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped |= {id(inner) for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found


def strays(path, source):
    """The packages that the module at `path` may not import, and does."""
    return {
        package
        for package in imports(source) & set(HOMES)
        if not any(fnmatch(path, home) for home in HOMES[package])
    }


@pytest.mark.parametrize("path", SOURCES)
def test_a_framework_is_imported_in_its_own_modules_alone(path):
    assert strays(path, (ROOT / path).read_text()) == set()


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("parity/compare.py", "import torch", {"torch"}),
        ("parity/runtimes/keras/runtime.py", "def f():\n    from torch import nn", {"torch"}),
        ("parity/network/weights.py", "import tensorflow.keras as k", {"tensorflow"}),
        ("exporters/onnx_graph.py", "from parity import weights", {"parity"}),
        ("exporters/torch_onnx.py", "import onnxruntime", {"onnxruntime"}),
        ("parity/comparison/flow.py", "if TYPE_CHECKING:\n    import torch", set()),
        ("parity/runtimes/torch/runtime.py", "import torch", set()),
    ],
)
def test_a_stray_import_is_seen(path, source, expected):
    assert strays(path, source) == expected


@pytest.mark.parametrize(
    "path",
    [
        path for path in SOURCES
        if path.startswith("parity/report/")
        or path.startswith("parity/numerics/")
    ],
)  # fmt: skip
def test_the_verdict_and_the_reports_see_no_more_than_numpy(path):
    foreign = imports((ROOT / path).read_text()) - set(sys.stdlib_module_names)
    if path == "parity/commands/cli/report_options.py":
        # The one thing of a report that is an option on the command line.
        foreign -= {"typer"}
    assert foreign <= (REPORTERS if path.startswith("parity/report/") else JUDGES)


def own_imports(path):
    """The modules of the project that a module's text imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("parity", "exporters")}


@pytest.mark.parametrize(
    ("folder", "seen"),
    [
        ("parity/explain/proof/", ("parity.explain.proof", "parity.numerics", "parity.network")),
        ("parity/network/kinds/", ("parity.network",)),
    ],
)
def test_the_proof_and_the_kinds_see_only_what_lies_below_them(folder, seen):
    paths = [path for path in SOURCES if path.startswith(folder)]
    assert len(paths) > 5
    for path in paths:
        assert {name for name in own_imports(path) if not name.startswith(seen)} == set(), path


FRAMEWORKS = ("torch", "keras", "tensorflow", "onnxruntime", "onnx", "h5py", "jax")


def loaded(*arguments):
    """The heavy packages that a fresh interpreter has loaded when `arguments` have run."""
    code = (
        "import sys, runpy\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n"
        "    exec(sys.argv[1]) if sys.argv[0] == '-c' else "
        "runpy.run_module('parity.commands.cli.main', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('LOADED', *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    modules = done.stderr.rpartition("LOADED ")[2].split()
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import parity"),
        ("-c", "import parity; parity.compare; parity.export; parity.convert"),
        ("parity", "models"),
        ("parity", "table", "resnet18"),
    ],
)
def test_no_framework_is_loaded(arguments):
    assert not loaded(*arguments) & set(FRAMEWORKS)


@pytest.mark.parametrize(
    "arguments",
    [("-c", "import parity"), ("parity", "--help"), ("parity",), ("parity", "compare", "--help")],
)
def test_help_loads_nothing_heavy(arguments):
    heavy = {*FRAMEWORKS, "numpy", "rich", "matplotlib", "PIL", "safetensors"}
    assert not loaded(*arguments) & heavy


def test_a_framework_that_is_loaded_is_seen():
    assert "numpy" in loaded("-c", "import numpy")
