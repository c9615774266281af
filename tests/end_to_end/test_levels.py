"""Semantics, isolation and attribution: what the error alone does not tell."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import parity as api

pytestmark = pytest.mark.framework

SMALL = {"classes": 10, "image_size": (64, 64)}


def test_an_epsilon_below_the_floor_is_seen_in_float64():
    """1.001e-5 against 1e-5: numerics passes, semantics names the layer."""
    report = api.compare(
        "resnet18",
        "keras=tests.twins.broken:slight_epsilon",
        subjects=("keras", "torch", "onnx-keras"),
        semantics=True,
        **SMALL,
    )
    assert report.verdict == "divergence"
    assert report.levels["numerics"].outcome == "pass"
    semantics = report.levels["semantics"]
    assert semantics.outcome == "fail"
    for subject in ("keras", "onnx-keras"):
        (message,) = [text for text in semantics.messages if text.startswith(f"{subject}:")]
        assert "differs in float64 first at stage1.block1.bn1" in message


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "isolated"])
def two_faults(request):
    isolate = request.param
    report = api.compare(
        "resnet18",
        "keras=tests.twins.broken:two_faults",
        subjects=("keras", "torch"),
        isolate=isolate,
        explain=False,
        **SMALL,
    )
    return isolate, report


def test_two_faults_are_told_apart_by_isolation(two_faults):
    """Both are named with the reference's inputs; without, the later one counts as inherited."""
    isolate, report = two_faults
    assert report.verdict == "divergence"
    named = {(found.stage, found.layer) for found in report.divergences}
    first = ("stage1", "stage1.block1.bn1")
    assert first in named
    alone = {
        stage.name
        for stage in report.stages
        if "keras" in stage.isolated and not stage.isolated["keras"].status.passes
    }
    if isolate:
        assert ("stage3", "stage3.block0.conv1") in named
        assert alone == {"stage1", "stage3"}
    else:
        assert named == {first}
        assert alone == set()
        assert not report.stages[3].subjects["keras"].status.passes


@pytest.mark.slow
def test_a_changed_initializer_is_the_graphs_fault(tmp_path):
    graph = _exported(tmp_path / "r.onnx")
    changed = onnx.load(graph)
    tensor = next(item for item in changed.graph.initializer if item.name == _NAME)
    values = numpy_helper.to_array(tensor).copy()
    values[3, 2, 1, 1] += 1e-3
    tensor.CopyFrom(numpy_helper.from_array(values, _NAME))
    onnx.save(changed, graph)
    report = api.compare(
        "resnet18",
        f"onnx-torch={graph}",
        subjects=("keras", "torch", "onnx-torch"),
        **SMALL,
    )
    assert report.verdict == "divergence"
    first = report.first_divergence
    assert (first.subject, first.stage, first.layer) == (
        "onnx-torch",
        "stage2",
        "stage2.block0.conv2",
    )
    (sentence,) = report.attribution
    assert "the exported graph, not PyTorch and not ONNX Runtime" in sentence
    for stage in report.stages:
        assert stage.subjects["keras"].status.passes
        assert stage.subjects["torch"].status.passes


_NAME = "layer2.0.conv2.weight"


def _exported(path: Path) -> Path:
    api.export("resnet18", path, side="torch", stage_outputs=True, **SMALL)
    names = {item.name for item in onnx.load(path).graph.initializer}
    assert _NAME in names, sorted(names)[:20]
    return path
