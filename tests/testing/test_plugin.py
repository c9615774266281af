"""The plugin of pytest, in a test run of its own: cases, fixtures, the marker, the report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A comparison takes seconds; the plugin is tested on reports that are there.
STAND_IN = """
import dataclasses
import parity, parity.commands.check, parity.commands.compare
from tests.report import samples

def compare(*models, **options):
    report = samples.parity() if "same.onnx" in models else samples.full()
    return dataclasses.replace(report, model=" ".join(models))

class Result:
    def __init__(self, report):
        self.reports = {"case": report}

def check(path, *, cases):
    return Result(samples.parity() if cases == ["same"] else samples.full())

parity.commands.compare.compare = compare
parity.commands.check.check = check
parity.testing.assertion.compare = compare
"""


@pytest.fixture
def suite(tmp_path):
    """A folder with a test suite; returns the output of its run."""

    def run(tests: str = "", *options: str, cases: str | None = None, conftest: str = STAND_IN):
        (tmp_path / "conftest.py").write_text(f"import parity.testing.assertion\n{conftest}")
        if tests:
            (tmp_path / "test_models.py").write_text(tests)
        if cases is not None:
            (tmp_path / "parity.toml").write_text(cases)
        plugin = ["-p", "parity.testing.plugin", "-p", "no:cacheprovider"]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *plugin, "-q", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            # The entry point of an installation would load it a second time.
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        )

    return run


CASES = """
[[case]]
name = "same"
model = "resnet18"

[[case]]
name = "other"
model = "resnet18"
image_size = 64
"""


def test_the_cases_of_the_file_are_tests(suite):
    done = suite("def test_mine(): pass\n", "--parity", "-rA", cases=CASES)
    assert done.returncode == 1
    assert "PASSED parity.toml::same" in done.stdout
    assert "FAILED parity.toml::other - divergence: resnext50_32x4d" in done.stdout
    assert "1 failed, 2 passed" in done.stdout
    assert "parity report" in done.stdout
    assert "remedy: pad by 1" in done.stdout
    assert "plugin.py" not in done.stdout


def test_without_the_option_no_case_is_a_test(suite):
    done = suite("def test_mine(): pass\n", cases=CASES)
    assert done.returncode == 0
    assert "1 passed" in done.stdout


def test_a_case_file_that_is_not_there(suite):
    done = suite("def test_mine(): pass\n", "--parity")
    assert done.returncode == 4
    assert "parity.toml is no file; `parity check --init MODEL` writes one" in done.stderr


def test_a_malformed_case_file_is_one_line(suite):
    done = suite("", "--parity", cases="[[case]]\nmodle = 'resnet18'\n")
    assert done.returncode == 2
    assert "parity.toml:2: unknown key 'modle'" in done.stdout
    assert "Traceback" not in done.stdout


MARKED = """
import pytest

@pytest.mark.parity("same.onnx", limit=4.0)
def test_same(parity_report):
    assert parity_report

@pytest.mark.parity("net.py:build", "other.onnx")
def test_other(parity_report):
    assert parity_report

def test_asserted(assert_parity):
    assert_parity("same.onnx", "same.onnx")
    assert_parity("net.py:build", "deployed.onnx")

def test_unmarked(parity_report):
    pass
"""


def test_marked_models_are_compared_and_the_report_is_attached(suite, tmp_path):
    done = suite(MARKED, "--strict-markers", "--parity-html", "pages")
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "2 failed" in done.stdout
    assert "1 error" in done.stdout
    assert done.stdout.count("Captured parity report") + done.stdout.count("- parity report -") == 2
    assert done.stdout.count("remedy: pad by 1") == 2
    assert "the test has no models; mark it with @pytest.mark.parity(A, B)" in done.stdout
    assert sorted(path.name for path in (tmp_path / "pages").glob("*")) == [
        "test_models.py-test_asserted.html",
        "test_models.py-test_other.html",
    ]


BAD_MARKERS = """
import pytest

@pytest.mark.parity("net.py:build", "same.onnx", wieghts="torch")
def test_option(parity_report): ...

@pytest.mark.parity("nowhere.py:build", "deployed.onnx")
def test_model(parity_report): ...

def test_unmarked(parity_report): ...
"""


def test_a_marker_that_cannot_be_compared_is_one_line(suite):
    done = suite(BAD_MARKERS, conftest="")
    assert "@pytest.mark.parity: got an unexpected keyword argument 'wieghts'" in done.stdout
    assert "@pytest.mark.parity: nowhere.py: no such file or directory" in done.stdout
    assert "parity_report: the test has no models" in done.stdout
    assert "plugin.py" not in done.stdout
    assert done.returncode == 1


def test_the_plugin_loads_neither_numpy_nor_a_framework():
    code = (
        "import sys, parity.testing.plugin; "
        "print([n for n in ('numpy', 'torch', 'keras', 'onnxruntime', 'rich') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
