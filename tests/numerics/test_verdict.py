"""Distances and the numeric verdict, and the differences that other checkers let pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray

from parity.errors import CaptureError
from parity.numerics.capture import CaptureReader, CaptureWriter
from parity.numerics.checksum import CHUNK
from parity.numerics.distance import measure_norms
from parity.numerics.floor import PRECISION_FACTORS, perturb
from parity.numerics.points import ComparisonPoint
from parity.numerics.verdict import (
    LIMIT,
    Floor,
    PointResult,
    Status,
    SubjectResult,
    compare_captures,
    compute_floor,
    find_failing_subjects,
    find_first_divergence,
    find_first_failure,
    find_first_not_passing,
    judge_error,
    measure_error,
)

Array = NDArray[Any]
NAN, INF = math.nan, math.inf
SHAPES = [(1,), (2, 3), (2, 3, 5, 7), (CHUNK - 1,), (CHUNK + 1,), (3, 5, 61, 59)]


def exact64(shape: tuple[int, ...] = (2, 8, 6, 5), seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def floor_on(exact: Array) -> Floor:
    """The floor that five perturbed copies of a tensor give."""
    rng = np.random.default_rng(9)
    exact = np.nan_to_num(exact, posinf=0.0, neginf=0.0)
    copies = [perturb(exact.astype(np.float32), rng) for _ in range(5)]
    return compute_floor([measure_error(actual=copy, expected=exact) for copy in copies])


def status(actual: Array, exact: Array, precision: str = "float32") -> Status:
    error = measure_error(actual=actual, expected=exact)
    return judge_error(error, floor_on(exact), precision=precision).status


# Distances


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_measure_is_the_formula(shape: tuple[int, ...], dtype: str) -> None:
    expected = exact64(shape)
    actual = (expected + 1e-3 * exact64(shape, seed=1)).astype(dtype)
    found = measure_error(actual=actual, expected=expected)
    gap = np.abs(actual.astype(np.float64) - expected)
    assert found.max_abs == gap.max()
    assert found.rel_l2 == pytest.approx(np.linalg.norm(gap) / np.linalg.norm(expected), rel=1e-12)
    assert found.worst == np.unravel_index(gap.argmax(), shape)
    assert (found.actual, found.expected) == (actual[found.worst], expected[found.worst])
    assert (found.wrong, found.compared, found.size) == (0, gap.size, gap.size)
    assert found.scale == np.abs(expected).max()
    assert not found.exact


def test_measure_walks_any_strides() -> None:
    expected, actual = exact64(), exact64(seed=1).astype(np.float32)
    contiguous = measure_error(actual=actual, expected=expected)
    for order in [(0, 2, 3, 1), (3, 1, 0, 2)]:
        back = np.argsort(order)
        strided = [np.ascontiguousarray(x.transpose(order)).transpose(back) for x in
                   (actual, expected)]  # fmt: skip
        found = measure_error(actual=strided[0], expected=strided[1])
        assert found.worst == contiguous.worst
        assert found.max_abs == contiguous.max_abs
        assert found.rel_l2 == pytest.approx(contiguous.rel_l2, rel=1e-12)


def test_exact_means_bit_for_bit_at_the_narrower_dtype() -> None:
    exact = exact64()
    for dtype in ("float16", "float32", "float64"):
        assert measure_error(actual=exact.astype(dtype), expected=exact).exact
    moved = exact.astype(np.float32)
    moved.reshape(-1)[-1] = np.nextafter(moved.reshape(-1)[-1], np.float32(INF))
    assert not measure_error(actual=moved, expected=exact).exact


def test_negative_zero_is_no_error_but_not_exact() -> None:
    found = measure_error(actual=np.array([-0.0, 1.0], np.float32), expected=np.array([0.0, 1.0]))
    assert (found.max_abs, found.rel_l2, found.exact) == (0.0, 0.0, False)
    assert judge_error(found, Floor(1e-7, 1e-7, 5, 1.0)).status is Status.AT_FLOOR


def test_worst_is_none_where_nothing_differs() -> None:
    found = measure_error(actual=np.ones(3), expected=np.ones(3))
    assert (found.worst, found.actual, found.expected) == (None, None, None)


@pytest.mark.parametrize(
    ("actual", "expected", "wrong"),
    [
        (NAN, 1.0, 1),
        (1.0, NAN, 1),
        (INF, 1.0, 1),
        (1.0, -INF, 1),
        (INF, -INF, 1),
        (-INF, INF, 1),
        (NAN, INF, 1),
        (INF, NAN, 1),
        (NAN, NAN, 0),
        (INF, INF, 0),
        (-INF, -INF, 0),
    ],
)
@pytest.mark.parametrize("at", [0, 1, CHUNK, 2 * CHUNK])
def test_non_finite(actual: float, expected: float, wrong: int, at: int) -> None:
    exact = exact64((2 * CHUNK + 1,))
    moved = exact.astype(np.float32)
    exact[at], moved[at] = expected, actual
    found = measure_error(actual=moved, expected=exact)
    assert found.wrong == wrong
    assert found.compared == exact.size - 1
    if wrong:
        assert math.isinf(found.max_abs)
        assert math.isinf(found.rel_l2)
        assert found.worst == (at,)
        assert status(moved, exact) is Status.NON_FINITE
    else:
        assert found.max_abs < 1e-6
        assert math.isfinite(found.scale)
        assert status(moved, exact).passes


def test_a_later_large_error_does_not_hide_where_the_first_nan_is() -> None:
    exact = exact64((3 * CHUNK,))
    actual = exact.copy()
    actual[7], actual[-1] = NAN, 1e9
    found = measure_error(actual=actual, expected=exact)
    assert found.worst == (7,)
    assert math.isnan(found.actual or 0.0)


def test_all_non_finite_compares_nothing() -> None:
    exact = np.full(4, NAN)
    found = measure_error(actual=exact.astype(np.float32), expected=exact)
    assert (found.wrong, found.compared) == (0, 0)
    assert judge_error(found, Floor(1e-7, 1e-7, 5, 0.0)).status is Status.NON_FINITE


def test_empty_compares_nothing() -> None:
    found = measure_error(actual=np.zeros((0, 3)), expected=np.zeros((0, 3)))
    assert judge_error(found, Floor(1e-7, 1e-7, 5, 0.0)).status is Status.MISSING


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3), (2, 3, 1), (6,), ()])
def test_shapes_are_never_broadcast(shape: tuple[int, ...]) -> None:
    found = measure_error(actual=np.ones(shape), expected=np.ones((2, 3)))
    assert found.mismatch == f"shape {list(shape)}, expected [2, 3]"
    assert judge_error(found, Floor(1.0, 1.0, 5, 1.0)).status is Status.DIVERGED


# The verdict


def test_reference_of_zeros() -> None:
    zeros = np.zeros((2, 3))
    floor = floor_on(zeros)
    assert floor.max_abs == 0.0
    assert status(zeros.astype(np.float32), zeros) is Status.EXACT
    assert status(-zeros.astype(np.float32), zeros) is Status.AT_FLOOR
    assert status(np.full((2, 3), 1e-30, np.float32), zeros) is Status.DIVERGED


def test_zeros_whose_replicates_move_have_a_floor() -> None:
    zeros = np.zeros(4)
    floor = compute_floor([measure_error(actual=np.full(4, 1e-6), expected=zeros)] * 5)
    found = judge_error(measure_error(actual=np.full(4, 2e-6), expected=zeros), floor)
    assert found.status is Status.AT_FLOOR
    assert found.x_floor == pytest.approx(2.0)


def test_one_element_is_judged() -> None:
    exact = np.array([1.0])
    assert status(np.array([1.0 + 2.0**-23], np.float32), exact) is Status.AT_FLOOR
    assert status(np.array([1.0 + 2.0**-20], np.float32), exact) is Status.DIVERGED


@pytest.mark.parametrize("above", [0.999, 1.001])
def test_the_limit_holds_for_both_ratios(above: float) -> None:
    floor = Floor(1e-6, 1e-5, 5, 1.0)
    error = measure_error(actual=exact64() + 1e-9, expected=exact64())
    for changed in ({"rel_l2": LIMIT * above * 1e-6}, {"max_abs": LIMIT * above * 1e-5}):
        found = judge_error(
            dataclasses.replace(error, **{"rel_l2": 0.0, "max_abs": 0.0} | changed), floor
        )
        assert found.status is (Status.AT_FLOOR if above < 1 else Status.DIVERGED)


def test_one_wrong_element_among_a_million_is_found() -> None:
    exact = exact64((1_000_000,))
    actual = exact.astype(np.float32)
    actual[765_432] += np.float32(1e-4)
    found = judge_error(measure_error(actual=actual, expected=exact), floor_on(exact))
    assert found.x_floor < LIMIT < found.x_floor_max
    assert found.status is Status.DIVERGED


def test_nan_figures_do_not_pass() -> None:
    error = measure_error(actual=exact64() + 1e-9, expected=exact64())
    broken = dataclasses.replace(error, rel_l2=NAN)
    assert judge_error(broken, Floor(1e-6, 1e-6, 5, 1.0)).status is Status.DIVERGED


@pytest.mark.parametrize("precision", PRECISION_FACTORS)
def test_precision_is_named_not_an_atol(precision: str) -> None:
    exact = exact64()
    floor = floor_on(exact)
    unit = 2.0**-24 * PRECISION_FACTORS[precision]
    near, far = exact * (1 + 2 * unit), exact * (1 + 40 * unit)
    for actual, expected in ((near, Status.AT_FLOOR), (far, Status.DIVERGED)):
        found = judge_error(
            measure_error(actual=actual, expected=exact), floor, precision=precision
        )
        assert found.status is expected


def test_float16_passes_as_float16_and_fails_as_float32() -> None:
    exact = exact64()
    actual = (exact * (1 + 3e-4)).astype(np.float16)
    assert status(actual, exact, "float16") is Status.AT_FLOOR
    assert status(actual, exact, "float32") is Status.DIVERGED


def test_float16_overflow_is_non_finite() -> None:
    exact = exact64() * 1e5
    with np.errstate(over="ignore"):
        assert status(exact.astype(np.float16), exact, "float16") is Status.NON_FINITE


@given(
    st_numpy.arrays(np.float32, (12,), elements=st.floats(-100, 100, width=32)),
    st.integers(0, 11),
    st.sampled_from([NAN, INF, -INF]),
)
def test_a_non_finite_value_never_passes(exact: Array, at: int, value: float) -> None:
    actual = exact.copy()
    actual[at] = value
    assert status(actual, exact.astype(np.float64)) is Status.NON_FINITE


# What widely used checkers let pass


def _reversed_classes(logits: Array) -> Array:
    return logits[:, ::-1]


def _nan_at_one(logits: Array) -> Array:
    logits[1, 3] = NAN
    return logits


CASES: dict[str, tuple[tuple[int, ...], Callable[[Array], Array], Status]] = {
    "reversed class order": ((2, 10), _reversed_classes, Status.DIVERGED),
    "reversed channels": ((2, 8, 6, 6), lambda x: x[:, ::-1], Status.DIVERGED),
    "height and width swapped": ((2, 8, 6, 6), lambda x: x.swapaxes(2, 3), Status.DIVERGED),
    "one NaN": ((2, 10), _nan_at_one, Status.NON_FINITE),
    "wrong 1-D output": ((10,), lambda x: x + np.float32(0.1), Status.DIVERGED),
    "NaN against finite": ((2, 10), lambda x: np.full_like(x, NAN), Status.NON_FINITE),
}


@pytest.mark.parametrize("case", CASES)
def test_what_other_checkers_let_pass_is_flagged(case: str) -> None:
    shape, spoil, expected = CASES[case]
    exact = exact64(shape)
    correct = exact.astype(np.float32)
    assert status(correct, exact).passes
    assert status(spoil(correct.copy()), exact) is expected


# Captures


def points(names: Sequence[str]) -> list[ComparisonPoint]:
    """Points of the depth "layer": name and row are the same, the stage is before the dot."""
    return [ComparisonPoint(name, name.split(".")[0], name, (8, 6, 5)) for name in names]


class Folder:
    """Captures in a folder, and the comparison of all of them with the reference."""

    def __init__(self, path: Path, exact: dict[str, Array]) -> None:
        self.path = path
        self.exact = exact
        self.subjects: dict[str, Path] = {}
        self.add("reference", exact)

    def add(self, name: str, rows: dict[str, Array]) -> None:
        self.subjects[name] = self.path / name
        with CaptureWriter(self.subjects[name], {"subject": name}) as writer:
            for row, tensor in rows.items():
                writer.add(row, tensor)

    def compare(self, **options: Any) -> list[PointResult]:
        readers = {name: CaptureReader(path) for name, path in self.subjects.items()}
        floors = {row: floor_on(tensor) for row, tensor in self.exact.items()}
        return compare_captures(
            reference=readers.pop("reference"),
            subjects=readers,
            **{"floors": floors, "points": points(list(self.exact)), **options},
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A reference of three rows, one longer than a chunk, and a subject that is only rounded."""
    exact = {
        "stem.conv": exact64((2, 16, 40, 39), seed=1),
        "stem.relu": np.maximum(exact64(seed=2), 0.0),
        "logits": exact64((2, 10), seed=3),
    }
    made = Folder(tmp_path, exact)
    rng = np.random.default_rng(4)
    made.add("torch", {row: perturb(x.astype(np.float32), rng) for row, x in exact.items()})
    return made


def test_compare_measures_what_measure_measures(folder: Folder) -> None:
    rng = np.random.default_rng(5)
    moved = {row: perturb(x.astype(np.float32), rng) for row, x in folder.exact.items()}
    folder.add("keras", moved)
    stages = folder.compare()
    assert [stage.name for stage in stages] == list(folder.exact)
    torch = CaptureReader(folder.subjects["torch"])
    for stage in stages:
        exact = folder.exact[stage.row]
        expected = measure_error(actual=moved[stage.row], expected=exact)
        result = stage.subjects["keras"]
        assert (result.max_abs, result.worst) == (expected.max_abs, expected.worst)
        assert result.rel_l2 == pytest.approx(expected.rel_l2, rel=1e-12)
        assert result.x_floor == pytest.approx(result.rel_l2 / floor_on(exact).rel_l2)
        assert result.status is Status.AT_FLOOR
        gap = moved[stage.row].astype(np.float64) - torch.read(stage.row)
        assert list(stage.pairs) == ["torch|keras"]
        assert stage.pairs["torch|keras"].max_abs == np.abs(gap).max()
        assert stage.pairs["torch|keras"].rel_l2 == pytest.approx(
            np.linalg.norm(gap) / np.linalg.norm(exact)
        )
        assert stage.shape == exact.shape
    assert find_first_divergence(stages) is None


def test_first_divergence_is_the_first_in_execution_order(folder: Folder) -> None:
    rows = {row: x.astype(np.float32) for row, x in folder.exact.items()}
    folder.add("keras", {**rows, "logits": rows["logits"] + np.float32(1e-3)})
    wrong = rows["stem.relu"].copy()
    wrong[0, 1, 2, 3] = NAN
    folder.add("onnx-keras", {**rows, "stem.relu": wrong})
    stages = folder.compare()
    statuses = [[r.status.value for r in stage.subjects.values()] for stage in stages]
    assert statuses == [
        ["at-floor", "exact", "exact"],
        ["at-floor", "exact", "non-finite"],
        ["at-floor", "diverged", "exact"],
    ]
    first = find_first_divergence(stages)
    assert first is not None
    assert (first.subject, first.stage, first.layer) == ("onnx-keras", "stem", "stem.relu")
    result = stages[1].subjects["onnx-keras"]
    assert result.worst == (0, 1, 2, 3)
    assert result.message == "1 of 480 values are NaN or Inf, unlike the reference's"
    assert math.isinf(stages[1].pairs["torch|onnx-keras"].max_abs)
    assert math.isfinite(stages[1].pairs["torch|keras"].max_abs)


def test_a_cut_that_is_a_stage_does_not_claim_a_layer(folder: Folder) -> None:
    folder.add("keras", {row: x.astype(np.float32) + 1 for row, x in folder.exact.items()})
    point = ComparisonPoint("stem", "stem", "stem.conv", (8, 6, 5))
    first = find_first_divergence(folder.compare(points=[point]))
    assert first is not None
    assert (first.stage, first.point, first.layer) == ("stem", "stem", None)


def test_a_row_that_a_subject_lacks_is_missing(folder: Folder) -> None:
    rows = {row: x.astype(np.float32) for row, x in folder.exact.items()}
    del rows["stem.relu"]
    folder.add("keras", rows)
    stages = folder.compare()
    assert stages[1].subjects["keras"].status is Status.MISSING
    assert not Status.MISSING.passes
    assert stages[1].subjects["torch"].status is Status.AT_FLOOR
    assert stages[1].pairs == {}


def test_a_row_that_the_reference_lacks_is_missing_for_all(folder: Folder) -> None:
    (stage,) = folder.compare(points=points(["stage9"]))
    assert [result.status for result in stage.subjects.values()] == [Status.MISSING]
    assert stage.floor is None


def test_another_shape_is_diverged_and_named(folder: Folder) -> None:
    rows = {row: x.astype(np.float32) for row, x in folder.exact.items()}
    folder.add("keras", {**rows, "logits": rows["logits"][:, :1]})
    result = folder.compare()[2].subjects["keras"]
    assert result.status is Status.DIVERGED
    assert result.message == "shape [2, 1], expected [2, 10]"


def test_precisions_are_a_subject_s_own(folder: Folder) -> None:
    half = {row: x.astype(np.float16).astype(np.float32) for row, x in folder.exact.items()}
    folder.add("half", half)
    folder.add("claims", half)
    for stage in folder.compare(precisions={"half": "float16"}):
        assert stage.subjects["half"].status.passes
        assert stage.subjects["claims"].status is Status.DIVERGED


def test_a_row_can_have_a_precision_of_its_own(folder: Folder) -> None:
    half = {row: x.astype(np.float16).astype(np.float32) for row, x in folder.exact.items()}
    folder.add("half", half)
    first, *others = folder.compare(row_precisions={"half": {"stem.conv": "float16"}})
    assert first.row == "stem.conv"
    assert first.subjects["half"].status.passes
    assert {stage.subjects["half"].status for stage in others} == {Status.DIVERGED}


def test_the_limit_is_the_caller_s(folder: Folder) -> None:
    stages = folder.compare(limit=0.01)
    assert {stage.subjects["torch"].status for stage in stages} == {Status.DIVERGED}


def test_a_row_without_a_floor_is_an_error(folder: Folder) -> None:
    with pytest.raises(CaptureError, match=r"stem\.conv: has no floor"):
        folder.compare(floors={})


def test_an_edited_capture_is_an_error(folder: Folder) -> None:
    path = folder.subjects["torch"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CaptureError, match="changed after the capture"):
        folder.compare()


# The order of the statuses, and which subject fails where


def test_statuses_are_ordered_from_best_to_worst() -> None:
    assert sorted(Status, key=lambda each: each.severity) == [
        "exact", "at-floor", "diverged", "non-finite", "missing",
    ]  # fmt: skip
    assert [each for each in Status if each.passes] == ["exact", "at-floor"]
    assert [each for each in Status if each.is_failure] == ["diverged", "non-finite"]


def _stages(*statuses: Status | None) -> list[PointResult]:
    """Stages 0, 1, ... where `torch` has these statuses, or is not listed, and `keras` passes."""
    return [
        PointResult(
            name=str(at),
            stage=str(at),
            row=f"{at}.out",
            shape=(1, 2),
            floor=None,
            subjects={"keras": SubjectResult(Status.EXACT)}
            | ({} if each is None else {"torch": SubjectResult(each)}),
        )
        for at, each in enumerate(statuses)
    ]


@pytest.mark.parametrize(
    ("statuses", "failure", "no_parity"),
    [
        ((Status.EXACT, Status.DIVERGED, Status.NON_FINITE), "1", "1"),
        ((Status.AT_FLOOR, Status.MISSING, Status.NON_FINITE), "2", "1"),
        ((None, Status.AT_FLOOR, Status.MISSING), None, "2"),
        ((None, Status.EXACT, Status.AT_FLOOR), None, None),
        ((), None, None),
    ],
)
def test_the_first_cut_that_fails_a_subject(
    statuses: tuple[Status | None, ...], failure: str | None, no_parity: str | None
) -> None:
    stages = _stages(*statuses)
    first, without = find_first_failure(stages, "torch"), find_first_not_passing(stages, "torch")
    assert (first and first.name, without and without.name) == (failure, no_parity)
    assert find_first_failure(stages, "keras") is None
    assert find_failing_subjects(stages) == ({"torch"} if no_parity else set())
    found = find_first_divergence(stages)
    assert (found and found.stage) == failure


def test_norms_leave_nothing_out():
    random = np.random.default_rng(0)
    expected = random.standard_normal((3, 20_000))
    actual = (expected + 1e-3 * random.standard_normal(expected.shape)).astype(np.float32)
    error, norm = measure_norms(actual=actual.T, expected=expected.T)
    assert error == pytest.approx(np.linalg.norm(actual - expected), rel=1e-12)
    assert norm == pytest.approx(np.linalg.norm(expected), rel=1e-12)
    expected[1, 7] = actual[1, 7] = np.nan
    assert np.isnan(measure_norms(actual=actual, expected=expected)).all()
