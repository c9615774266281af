"""The two halves of a comparison, and the check of many, with the frameworks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import parity as api
from parity.commands.diff import diff
from tests.end_to_end.test_failures import BLOCKER

pytestmark = pytest.mark.framework

OWN = (
    *("keras=tests.twins.keras_small:build", "torch=tests.twins.torch_small:build"),
    *("--table", "tests/twins/small.csv", "--image-size", "32", "--input", "random"),
)


def figures(report):
    return [
        (stage["name"], name, result["max_abs"], result["x_floor"], result["status"])
        for stage in report["stages"]
        for name, result in stage["subjects"].items()
    ]


@pytest.mark.slow
def test_a_capture_judged_later_gives_what_compare_gives(parity, tmp_path):
    """Both ways to save; nothing is left beside the captures."""
    both = ("--depth", "layer", "--batch", "2")
    compared = parity("compare", *OWN, *both, "--save-captures", tmp_path / "one", "--json", "-")
    assert compared.code == 0, compared.err
    captured = parity("capture", *OWN, *both, "--out", tmp_path / "two")
    assert captured.code == 0, captured.err
    names = ["keras", "onnx-keras", "onnx-torch", "reference", "torch"]
    for folder in ("one", "two"):
        held = sorted((tmp_path / folder).iterdir())
        assert [path.name for path in held] == [f"{name}.safetensors" for name in names]
        judged = parity("diff", tmp_path / folder, tmp_path / folder, "--json", "-")
        assert judged.code == 0
        assert figures(judged.report) == figures(compared.report)
        assert judged.report["levels"]["structure"] == "pass"
    across = parity("diff", tmp_path / "one", tmp_path / "two", "--json", "-")
    assert across.code == 0
    assert len(across.report["subjects"]) == 8


def test_captures_of_another_input_are_refused(parity, tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        subject = ("--subjects", "torch", "--seed", seed)
        done = parity("capture", *OWN, *subject, "--out", tmp_path / name)
        assert done.code == 0, done.err
    refused = parity("diff", tmp_path / "one", tmp_path / "two")
    assert refused.code == 2
    assert "different input" in refused.error


MODELS = ("keras=tests.twins.keras_small:build", "torch=tests.twins.torch_small:build")
TWINS = {
    "table": "tests/twins/small.csv",
    "image_size": 32,
    "input": "random",
    "subjects": "keras,torch",
}


def test_captures_from_python(tmp_path, monkeypatch):
    """Nothing is judged until they are compared; one that could not be run is missing and named."""
    captures = api.capture(*MODELS, **TWINS, out=tmp_path / "here")
    assert captures.ok
    assert captures.folder == tmp_path / "here"
    assert sorted(captures.files) == ["keras", "reference", "torch"]
    assert set(captures.files.values()) == set(captures.folder.iterdir())
    assert api.diff(str(captures.folder), captures.files["torch"]).ok
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("BLOCKED", "keras")
    there = api.capture(*MODELS, **TWINS, out=str(tmp_path / "there"))
    assert not there.ok
    assert sorted(there.files) == ["reference", "torch"]
    assert "No module named 'keras'" in there.failures["keras"]
    assert list(there.failures) == ["keras"]
    assert api.diff(captures.folder, there.folder).ok


CASES = """
[defaults]
table = "{table}"
image_size = 32
input = "random"
subjects = ["keras", "torch"]

[[case]]
name = "healthy"
models = ["keras=tests.twins.keras_small:build", "torch=tests.twins.torch_small:build"]

[[case]]
name = "faulty"
models = ["keras=tests.twins.keras_small:{twin}", "torch=tests.twins.torch_small:build"]

[[case]]
name = "another"
models = ["keras=tests.twins.keras_small:build", "torch=tests.twins.torch_small:build"]
seed = 1
depth = "layer"
"""


@pytest.fixture
def plan(tmp_path):
    def write(twin: str) -> Path:
        path = tmp_path / "parity.toml"
        path.write_text(CASES.format(twin=twin, table=Path("tests/twins/small.csv").resolve()))
        return path

    return write


def test_check_is_red_at_the_right_case(parity, plan, tmp_path):
    path = plan("wrong_vector")
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "step.md")}
    done = parity("check", path, "--json", tmp_path / "all.json", env=env)
    assert done.code == 1
    assert "2 of 3 cases agree" in done.out
    annotations = [line for line in done.err.splitlines() if line.startswith("::error")]
    line = path.read_text().splitlines().index('name = "faulty"')
    assert annotations
    assert all(
        each.startswith(f"::error file={path},line={line},title=parity%3A faulty%3A")
        for each in annotations
    )
    assert "first at pool" in annotations[0]
    assert "**faulty**" in (tmp_path / "step.md").read_text()
    # One child served all cases: it must have given what a child of its own gives.
    cases = json.loads((tmp_path / "all.json").read_text())["cases"]
    alone = api.compare(
        "keras=tests.twins.keras_small:build",
        "torch=tests.twins.torch_small:build",
        table=Path("tests/twins/small.csv"),
        image_size=(32, 32),
        input="random",
        subjects=("keras", "torch"),
        seed=1,
        depth="layer",
    )
    found = [
        (stage.name, name, result.max_abs, result.x_floor, str(result.status))
        for stage in alone.stages
        for name, result in stage.subjects.items()
    ]
    assert figures(cases["another"]) == found


@pytest.mark.slow
def test_check_is_red_when_a_locked_figure_triples(parity, plan):
    path = plan("build")
    assert parity("check", path, "--update").code == 0
    lock = path.with_name("parity.lock.json")
    assert parity("check", path).code == 0
    held = json.loads(lock.read_text())
    held["cases"]["another"]["stages"]["body.conv"]["keras"]["x_floor"] /= 3
    lock.write_text(json.dumps(held))
    done = parity("check", path)
    assert done.code == 1
    assert "keras at body.conv: x_floor" in done.out
    assert "2 of 3 cases agree" in done.out


@pytest.mark.slow
def test_a_model_with_other_weights_is_not_judged_by_the_lock(parity, plan):
    path = plan("build")
    assert parity("check", path, "--update").code == 0
    path.write_text(path.read_text().replace("seed = 1", "seed = 2"))
    done = parity("check", path)
    assert done.code == 2
    assert "another input: locked" in done.error


def test_judging_again_takes_no_framework(parity, tmp_path):
    """`diff` runs in a process that has imported none, in a fraction of a second."""
    done = parity("capture", *OWN, "--subjects", "torch", "--out", tmp_path / "one")
    assert done.code == 0, done.err
    assert diff(tmp_path / "one", tmp_path / "one").seconds < 1.0
