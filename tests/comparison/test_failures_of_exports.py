"""A layer of an export that differs as its model's does is not explained a second time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from parity.comparison.graphs.isolation import find_shared_failures, find_shared_shapes
from parity.numerics.capture import CaptureWriter
from parity.numerics.floor import Floor
from parity.numerics.verdict import PairResult, PointResult, Status, SubjectResult

FLOOR = Floor(rel_l2=1e-7, max_abs=1e-6, replicates=5, scale=2.0)
SOURCES = {"keras": "", "torch": "", "onnx-torch": "torch"}
DIFFERENT = SubjectResult(Status.DIVERGED, max_abs=0.4, rel_l2=0.1, x_floor=1e6, x_floor_max=4e5)
EQUAL = SubjectResult(Status.AT_FLOOR, 1e-6, 1e-7, 1.0, 1.0)


def _point(
    torch: SubjectResult = DIFFERENT, export: SubjectResult = DIFFERENT, rel_l2: float = 2e-7,
    max_abs: float = 2e-6,
) -> PointResult:  # fmt: skip
    pairs = {"torch|onnx-torch": PairResult(max_abs, rel_l2), "keras|torch": PairResult(0.4, 0.1)}
    subjects = {"keras": EQUAL, "torch": torch, "onnx-torch": export}
    return PointResult("stage1", "stage1", "conv", (1, 2), FLOOR, subjects, pairs)


def _find(*points: PointResult) -> frozenset[tuple[str, str]]:
    return find_shared_failures(SOURCES, points, limit=4.0)


def test_an_export_that_gives_what_its_model_gives() -> None:
    assert _find(_point(EQUAL, EQUAL), _point()) == {("onnx-torch", "conv")}


@pytest.mark.parametrize(
    "point",
    [
        _point(rel_l2=1e-5),
        _point(max_abs=1e-4),
        _point(torch=EQUAL),
        _point(export=replace(DIFFERENT, status=Status.NON_FINITE)),
        replace(_point(), pairs={}),
        replace(_point(), floor=None),
    ],
    ids=["another output", "another value", "alone", "not finite", "another shape", "no floor"],
)
def test_an_export_with_differences_of_its_own(point: PointResult) -> None:
    assert _find(point) == frozenset()


def test_an_export_that_passes_is_none_of_them() -> None:
    assert _find(_point(EQUAL, EQUAL)) == frozenset()


def test_outputs_of_another_size_round_by_their_own() -> None:
    logits = replace(DIFFERENT, max_abs=2e3, rel_l2=1e3)
    assert _find(_point(logits, logits, rel_l2=2e-4, max_abs=2e-3)) == {("onnx-torch", "conv")}
    assert _find(_point(rel_l2=2e-4, max_abs=2e-3)) == frozenset()


def _find_shapes(tmp_path: Path, export: NDArray[np.float32], torch: SubjectResult) -> bool:
    """Return whether the export of a model that gives 0, 1, 2, … differs as the model does."""
    own = replace(DIFFERENT, message="expected (1, 2), found (1, 4)")
    captures = {}
    values = {"torch": np.arange(4, dtype=np.float32)[None], "onnx-torch": export}
    for name, value in values.items():
        captures[name] = tmp_path / f"{name}.safetensors"
        with CaptureWriter(captures[name], {}) as writer:
            writer.add("conv", value)
    point = replace(_point(torch, own), pairs={})
    return ("onnx-torch", "conv") in find_shared_shapes(SOURCES, [point], captures, limit=4.0)


def test_an_output_of_another_shape_is_read(tmp_path: Path) -> None:
    own = replace(DIFFERENT, message="expected (1, 2), found (1, 4)")
    equal = np.arange(4, dtype=np.float32)[None]
    assert _find_shapes(tmp_path, equal + np.float32(1e-7), own)
    assert not _find_shapes(tmp_path, equal + np.float32(1e-4), own)
    assert not _find_shapes(tmp_path, equal[:, :3], own)
    assert not _find_shapes(tmp_path, equal, DIFFERENT)
