"""The main job: one command, four subjects, one verdict."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import parity as api
from parity.network import architectures
from parity.numerics.capture import CaptureReader
from tests.end_to_end import harness
from tests.end_to_end.conftest import SMALL

pytestmark = pytest.mark.framework

SUBJECTS = ["keras", "torch", "onnx-keras", "onnx-torch"]
STAGES = ["stem", "stage1", "stage2", "stage3", "stage4", "pool", "logits"]
QUICK = ("resnet18",)
"""A basic block. The others are marked slow; `.ci/run` compares a grouped bottleneck."""


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """ResNeXt-50 compared twice: with nothing cached, and with what the first run left."""
    folder = tmp_path_factory.mktemp("compared")
    requests = harness.counted(folder / "counted")
    arguments = ("compare", "resnext50_32x4d", *SMALL, "--json", folder / "report.json")
    # A cache of its own: other tests may have left what this one counts in the session's.
    env = {**requests.env, "PARITY_CACHE": str(folder / "cache")}
    cold = harness.parity(folder / "cold", *arguments, env=env)
    asked = {"cold": requests.take()}
    first = json.loads((folder / "report.json").read_text())
    warm = harness.parity(
        *(folder / "warm", *arguments, "--save-captures", folder / "captures", "--batch", "2"),
        env=env,
    )
    asked["warm"] = requests.take()
    second = json.loads((folder / "report.json").read_text())
    return {
        "cold": (cold, first),
        "warm": (warm, second),
        "captures": folder / "captures",
        "asked": asked,
    }


@pytest.mark.parametrize("which", ["cold", "warm"])
def test_all_four_subjects_are_at_parity(compared, which):
    done, report = compared[which]
    assert done.code == 0, done.err
    assert report["verdict"] == "parity"
    assert list(report["subjects"]) == SUBJECTS
    assert [stage["name"] for stage in report["stages"]] == STAGES
    for stage in report["stages"]:
        assert set(stage["subjects"]) == set(SUBJECTS)
        assert len(stage["pairs"]) == 6
        assert all(found["status"] == "at-floor" for found in stage["subjects"].values())
        assert stage["floor"]["replicates"] == 5
    for level in ("structure", "weights", "numerics"):
        assert report["levels"][level] == "pass"
    assert report["first_divergence"] is None


def test_the_report_is_valid_by_its_schema(compared):
    schema = json.loads(
        (resources.files("parity.report") / "schema" / "report-v1.json").read_text()
    )
    for which in ("cold", "warm"):
        jsonschema.validate(compared[which][1], schema)


def test_the_terminal_says_it_in_one_sentence(compared):
    done, _ = compared["cold"]
    assert done.out.startswith("parity: keras, torch, onnx-keras and onnx-torch agree with torch")
    assert "\x1b" not in done.out
    assert not done.err
    for stage in STAGES:
        assert f"\n{stage}" in done.out
    for words in ("tensorflow 2.", "torch 2.", "onnxruntime 1."):
        assert words in done.out


def test_the_input_and_the_weights_are_identified(compared):
    (_, cold), (_, warm) = compared["cold"], compared["warm"]
    assert cold["input"]["kind"] == "photo"
    assert cold["input"]["shape"] == [1, 3, 64, 64]
    assert warm["input"]["shape"] == [2, 3, 64, 64]
    assert cold["input"]["sha256"] != warm["input"]["sha256"]
    assert cold["weights"]["sha256"] == warm["weights"]["sha256"]
    assert (
        cold["weights"]["parameters"] == architectures.get("resnext50_32x4d", classes=10).parameters
    )


def test_the_second_run_exports_nothing(compared):
    (_, cold), (_, warm) = compared["cold"], compared["warm"]
    made = ("keras export_structure", "torch export_structure", "torch calibrate")
    counts = {run: [asked.count(each) for each in made] for run, asked in compared["asked"].items()}
    assert counts == {"cold": [1, 1, 1], "warm": [0, 0, 0]}
    assert "torch run" in compared["asked"]["warm"]
    assert cold["stages"][0]["shape"] == [1, 64, 16, 16]
    assert warm["stages"][0]["shape"] == [2, 64, 16, 16]


def test_captures_can_be_kept(compared):
    """What the subjects produced, as files that anybody can read and judge again."""
    captures = compared["captures"]
    assert sorted(path.stem for path in captures.iterdir()) == sorted([*SUBJECTS, "reference"])
    logits = {}
    for path in captures.iterdir():
        with CaptureReader(path) as reader:
            assert len(reader.names) == len(STAGES)
            logits[path.stem] = np.array(reader.read("logits"))
    assert logits["reference"].dtype == np.float64
    for name in SUBJECTS:
        assert logits[name].dtype == np.float32
        np.testing.assert_allclose(logits[name], logits["reference"], rtol=1e-3, atol=1e-3)
        assert not np.array_equal(logits[name][0], logits[name][1])


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in architectures.names()
    ],
)
def test_every_architecture_is_at_parity(name):
    """At a small size, every layer, through the Python API; `pytest -m slow` runs the others."""
    report = api.compare(
        name, classes=10, image_size=(64, 64), input="random", seed=1, depth="layer"
    )
    assert report.verdict == "parity", [
        (stage.name, name, found.status)
        for stage in report.stages
        for name, found in stage.subjects.items()
        if not found.status.passes
    ]
    table = architectures.get(name, classes=10, image_size=(64, 64)).table()
    assert len(report.stages) == len(table.points("layer"))
    assert all(set(stage.subjects) == set(SUBJECTS) for stage in report.stages)


def test_other_sizes_channels_and_classes(parity):
    done = parity(
        "compare", "resnet18", "--classes", "3", "--channels", "1", "--image-size", "50x70",
        "--subjects", "torch,onnx-torch", "--reference", "torch", "--depth", "block",
        "--input", "random", "--json", "-",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.report["input"]["shape"] == [1, 1, 50, 70]
    assert done.report["stages"][-1]["shape"] == [1, 3]
    assert "stage1.block0" in [stage["name"] for stage in done.report["stages"]]


def test_keras_can_be_the_reference(parity, checkpoint):
    done = parity(
        "compare", "resnet18", *SMALL, "--weights", checkpoint, "--reference", "keras",
        "--subjects", "keras,onnx-keras", "--json", "-",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.report["reference"] == "keras"
    assert list(done.report["subjects"]) == ["keras", "onnx-keras"]


def test_a_folder_of_photographs(parity, tmp_path):
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    arguments = ("--subjects", "torch,onnx-torch", "--input", photos, "--json", "-")
    done = parity("compare", "resnet18", *SMALL, *arguments)
    assert done.code == 0, done.err
    assert done.report["input"]["shape"] == [3, 3, 64, 64]


def test_names_of_paths_are_no_part_of_the_report(compared):
    """A report can be shown to others."""
    text = json.dumps(compared["cold"][1])
    assert str(Path.home()) not in text
    assert "scratch" not in text
