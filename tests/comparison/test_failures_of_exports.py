"""A layer of an export that differs as its model's does is not explained a second time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from parity.comparison.graphs.inverted_masks import find_inverted_masks
from parity.comparison.graphs.isolation import (
    IsolatedRows,
    find_passing_shapes,
    find_shared_failures,
    find_shared_shapes,
)
from parity.network.graph import Graph, Node, Tensor
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


def _chain(*names: str) -> Any:
    """Return the state of a reference whose rows read from one another, one operation between."""
    nodes, tensors = [], {}
    for number, name in enumerate(names):
        read = () if not number else (f"{names[number - 1]}.crop",)
        nodes.append(Node(name, "max_pool", "max_pool", read, (name,), (), {}, ""))
        nodes.append(Node(f"{name}.crop", "slice", "slice", (name,), (f"{name}.crop",), (), {}, ""))
        tensors |= {each: Tensor(each, (1, 2), "float32") for each in (name, f"{name}.crop")}
    graph = Graph("torch", tuple(nodes), tensors, (), ())
    rows = [
        SimpleNamespace(name=each, node=each, tensors={"torch": SimpleNamespace(tensor=each)})
        for each in names
    ]
    subject = SimpleNamespace(name="torch")
    return SimpleNamespace(
        reference=SimpleNamespace(graph=graph, subject=subject), table=SimpleNamespace(rows=rows)
    )


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        (EQUAL, {"pool"}),
        (DIFFERENT, set()),
        (SubjectResult(Status.MISSING), set()),
        (None, set()),
    ],
    ids=["right", "wrong", "not compared", "absent"],
)
def test_another_shape_is_none_where_what_reads_it_is_right(
    behind: SubjectResult | None, expected: set[str]
) -> None:
    other = SubjectResult(Status.DIVERGED, message="the shape is (1, 3)")
    results = [
        replace(_point(), row=name, subjects={"keras": result})
        for name, result in (("pool", other), ("conv", behind))
        if result is not None
    ]
    assert find_passing_shapes(_chain("pool", "conv"), results, "keras") == expected
    assert find_passing_shapes(_chain("conv", "pool"), results, "keras") == set()


@pytest.mark.parametrize(
    ("kind", "own", "expected"),
    [
        ("equal", [1, 0, 1], {"mask"}),
        ("equal", [0, 1, 0], set()),
        ("equal", [1, 0, 0], set()),
        ("add", [1, 0, 1], set()),
    ],
    ids=["opposite", "same", "partly", "no comparison"],
)
def test_a_mask_that_is_written_the_other_way_round(
    tmp_path: Path, kind: str, own: list[int], expected: set[str]
) -> None:
    paths = []
    for name, values in (("reference", [0, 1, 0]), ("subject", own)):
        paths.append(tmp_path / name)
        with CaptureWriter(paths[-1], {}) as writer:
            writer.add("mask", np.array(values, np.float32))
    table = SimpleNamespace(by_name=lambda name: SimpleNamespace(kind=kind))
    points: Any = [SimpleNamespace(row="mask"), SimpleNamespace(row="absent")]
    assert find_inverted_masks(cast(Any, table), points, *paths) == expected


def test_a_row_of_another_shape_that_is_right_is_no_failure(tmp_path: Path) -> None:
    results = [replace(_point(), row=name) for name in ("pool", "conv")]
    rows = IsolatedRows(tuple(results), {}, tmp_path, frozenset({"stage1"}), {})
    assert ("torch", "pool") in [(name, row.row) for name, row in rows.failures()]
    left = replace(rows, passing_shapes=frozenset({("torch", "pool")}))
    found = [(name, row.row) for name, row in left.failures()]
    assert ("torch", "pool") not in found
    assert ("torch", "conv") in found
