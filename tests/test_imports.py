"""What a fresh process loads; the import contracts over the source are in test_contracts.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FRAMEWORKS = ("torch", "keras", "tensorflow", "onnxruntime", "onnx", "h5py", "jax")


def loaded(*arguments):
    """The modules that a fresh interpreter has loaded when `arguments` have run."""
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
    return {module.partition(".")[0] for module in modules} | set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import parity"),
        ("-c", "import parity; [getattr(parity, name) for name in parity.__all__]"),
        ("parity", "models"),
        ("parity", "table", "resnet18"),
    ],
)
def test_no_framework_is_loaded(arguments):
    assert not loaded(*arguments) & set(FRAMEWORKS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import parity; dir(parity)"),
        ("parity", "--help"),
        ("parity",),
        ("parity", "compare", "--help"),
    ],
)
def test_help_loads_nothing_heavy(arguments):
    heavy = {*FRAMEWORKS, "numpy", "rich", "matplotlib", "PIL", "safetensors"}
    if "compare" not in arguments:
        # Newer releases of Typer parse the types of a command's options with it.
        heavy.add("pydantic")
    assert not loaded(*arguments) & heavy


def test_help_loads_only_what_it_prints():
    """What a command needs when it runs is imported then: each of these takes about 1 ms."""
    late = {"csv", "json", "random", "tempfile", "parity.training", "parity.network"}
    assert not loaded("parity", "--help") & late
    assert "json" in loaded("parity", "models", "--json")


REPORT = "from tests.report.samples import full; report = full(); "


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import parity; parity.compare", False),
        (
            REPORT + "import parity.report.collection, parity.report.codec,"
            "parity.commands.cli.report_options",
            False,
        ),
        (REPORT + "print(report, report._repr_html_())", False),
        (
            REPORT + "import io; from rich.console import Console; "
            "from parity.report import terminal; "
            "terminal.render(report, Console(file=io.StringIO()))",
            False,
        ),
        (REPORT + "from parity.report.formats import json", False),
        (REPORT + "from parity.report.formats import markdown; markdown.render(report)", False),
        (REPORT + "from parity.report.formats import json; json.render(report)", True),
    ],
)
def test_pydantic_is_loaded_only_for_json(code, expected):
    assert ("pydantic" in loaded("-c", code)) is expected


def test_a_framework_that_is_loaded_is_seen():
    assert "numpy" in loaded("-c", "import numpy")
