"""The runtimes are found in their folders, also one that is dropped in; no list is elsewhere."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy
import pytest

import parity
from parity.commands.cli import main as cli
from parity.errors import RequirementError
from parity.processes import registry
from parity.processes.child import Child
from parity.processes.subjects import Subject, parse_subject, subject_kinds

ROOT = Path(__file__).resolve().parents[2]


def test_every_folder_of_a_runtime_is_found():
    folders = {path.parent.name for path in ROOT.glob("parity/runtimes/*/runtime.py")}
    assert set(registry.all_runtimes()) == folders
    for name, info in registry.all_runtimes().items():
        assert (info.name, info.module) == (name, f"parity.runtimes.{name}.runtime")


def test_the_slowest_is_first_and_helpers_are_no_subjects():
    assert list(registry.frameworks()) == ["keras", "torch", "onnx"]
    assert registry.get("numpy").is_helper
    assert subject_kinds() == ("keras", "torch", "onnx-keras", "onnx-torch")
    assert registry.reference_candidates() == ("torch", "keras")
    assert registry.graph_evaluator() == "torch"


def test_what_a_runtime_says_of_itself_is_complete():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for info in registry.frameworks().values():
        assert info.main_package in info.package_names
        assert info.extra in extras
        assert info.gpu_extra in extras
        assert info.cuda_build is not None
        assert info.cuda_build.package in info.package_names
        assert info.gpu_remedy
        assert info.tf32_remedy
        # What an extra installs is what the runtime needs.
        required = {text.partition(">")[0].partition("[")[0] for text in extras[info.extra]}
        assert required == set(info.package_names)


def test_a_runtime_that_there_is_not():
    with pytest.raises(RequirementError, match="unknown runtime 'mxnet'; known: keras, torch"):
        registry.get("mxnet")


def test_an_about_imports_no_framework_and_little_else():
    code = (
        "import sys\n"
        "from parity.processes import registry\n"
        "before = set(sys.modules)\n"
        "registry.all_runtimes()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    expected = {"parity.runtimes"}
    for name in registry.all_runtimes():
        expected |= {f"parity.runtimes.{name}", f"parity.runtimes.{name}.about"}
    assert set(done.stdout.split()) == expected


# A list of runtimes anywhere else ---------------------------------------------------------------

FREE = ("parity/runtimes/", "parity/network/", "parity/explain/causes/")
"""The layer table's columns are named by framework, and a cause's remedy is written for each."""


def runtime_lists(source):
    """The lines of a source that list two or more runtimes: in a tuple, a list, a set, a dict."""
    names = set(registry.frameworks())
    found = []
    for node in ast.walk(ast.parse(source)):
        items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        held = {item.value for item in items if isinstance(item, ast.Constant)} & names
        if len(held) > 1:
            found.append(node.lineno)
    return found


def test_no_list_of_runtimes_elsewhere():
    found = {}
    for path in sorted(ROOT.glob("parity/**/*.py")):
        name = str(path.relative_to(ROOT))
        lines = [] if name.startswith(FREE) else runtime_lists(path.read_text())
        if lines:
            found[name] = lines
    # The two parameters `keras=` and `torch=` of a comparison, by name.
    assert set(found) <= {"parity/comparison/request.py"}
    assert all(len(lines) == 1 for lines in found.values())


@pytest.mark.parametrize(
    "source",
    ['RUNTIMES = ("keras", "torch")', 'L = {"torch": 1, "onnx": 2}', 'x in ["onnx", "keras"]'],
)
def test_a_list_of_runtimes_is_seen(source):
    assert runtime_lists(source) == [1]


# A runtime that is dropped in -------------------------------------------------------------------

ABOUT = """
from parity.processes.registry import Package, RuntimeInfo

ABOUT = RuntimeInfo(
    label="Toy",
    packages=(Package("numpy"),),
    main_package="numpy",
    runs_graphs=True,
    variables={"TOY_VARIABLE": "set"},
)
"""

RUNTIME = """
import os
import platform

import numpy

import parity


class Runtime:
    name = "toy"

    def hello(self):
        versions = {"numpy": numpy.__version__}
        return {"parity": parity.__version__, "python": platform.python_version(),
                "versions": versions}

    def inspect_device(self, *, device):
        return {"devices": [device], "flags": {"toy": True}, "package_problems": [],
                "device_problems": []}

    def variable(self):
        return {"value": os.environ.get("TOY_VARIABLE")}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package with the one runtime `toy`, searched beside parity's own."""
    folder = tmp_path / "toy_runtimes" / "toy"
    folder.mkdir(parents=True)
    for place in (folder.parent, folder):
        (place / "__init__.py").write_text("")
    (folder / "about.py").write_text(textwrap.dedent(ABOUT))
    (folder / "runtime.py").write_text(textwrap.dedent(RUNTIME))
    # A folder without an about.py is none, whatever else it holds.
    (folder.parent / "helpers").mkdir()
    (folder.parent / "helpers" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PARITY_RUNTIMES", "parity.runtimes, toy_runtimes")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_runtimes"]:
        del sys.modules[name]
    registry._discover.cache_clear()


def test_a_new_runtime_has_subjects(toy):
    assert set(registry.frameworks()) == {"keras", "torch", "onnx", "toy"}
    assert parse_subject("toy-torch@cpu") == Subject("toy-torch@cpu", "toy-torch", device="cpu")
    assert (parse_subject("toy-torch").runtime, parse_subject("toy-torch").side) == ("toy", "torch")
    assert parse_subject("toy-keras").runs_graph


def test_a_new_runtime_answers(toy):
    child = Child("toy")
    try:
        assert child.hello()["parity"] == parity.__version__
        assert child.call("variable") == {"value": "set"}
    finally:
        child.close()


@pytest.mark.framework
def test_the_doctor_lists_a_new_runtime(toy, capsys):
    assert cli.main(["doctor", "--json", "--device", "cpu"]) == 0
    runtimes = {each["runtime"]: each for each in json.loads(capsys.readouterr().out)["runtimes"]}
    assert set(runtimes) == {"keras", "torch", "onnx", "toy"}
    assert runtimes["toy"]["flags"] == {"toy": True}


@pytest.mark.framework
def test_the_doctor_says_what_a_new_runtime_cannot_answer(toy, capsys):
    runtime = toy / "runtime.py"
    runtime.write_text(runtime.read_text().replace("def inspect_device", "def other"))
    assert cli.main(["doctor", "--device", "cpu"]) == 3
    output = capsys.readouterr().out
    assert f"toy       numpy {numpy.__version__}, Python" in output
    assert "missing   toy: the runtime does not implement 'inspect_device'" in output
    assert "not installed" not in output


def test_the_first_package_that_has_a_name_wins(toy, monkeypatch):
    (toy.parent / "numpy").mkdir()
    (toy.parent / "numpy" / "__init__.py").write_text("")
    (toy.parent / "numpy" / "about.py").write_text(textwrap.dedent(ABOUT))
    assert registry.get("numpy").label == "NumPy"
    monkeypatch.setenv("PARITY_RUNTIMES", "toy_runtimes,parity.runtimes")
    assert registry.get("numpy").label == "Toy"


def test_an_about_without_an_about(toy):
    (toy / "about.py").write_text("LABEL = 'Toy'\n")
    with pytest.raises(RequirementError, match=r"toy_runtimes\.toy\.about: expected ABOUT, a Runt"):
        registry.all_runtimes()


def test_a_package_that_is_not_there_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "parity.commands.cli.main", "--help"],
        capture_output=True, text=True, env={**os.environ, "PARITY_RUNTIMES": "no_such_package"},
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: PARITY_RUNTIMES: no_such_package cannot be imported")
