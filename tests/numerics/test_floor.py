"""The floor: what replicates make of it, and how they are perturbed."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from parity.errors import CaptureError
from parity.numerics import floor
from parity.numerics.distance import ErrorMetrics, measure_error
from parity.numerics.floor import (
    PRECISION_FACTORS,
    ROUNDOFF,
    Floor,
    FloorAccumulator,
    compute_floor,
    perturb,
)
from parity.numerics.rounding import unit_roundoff

RNG = np.random.default_rng


def error(rel_l2: float, max_abs: float, *, scale: float = 1.0, wrong: int = 0) -> ErrorMetrics:
    return ErrorMetrics(max_abs, rel_l2, wrong=wrong, compared=9, size=9, scale=scale)


def test_root_mean_square_and_largest() -> None:
    found = compute_floor([error(3e-6, 1e-5), error(4e-6, 9e-5), error(0.0, 2e-5)])
    assert found.rel_l2 == pytest.approx(math.sqrt(25e-12 / 3))
    assert found.max_abs == 9e-5
    assert found.replicates == 3


def test_one_lucky_replicate_does_not_lower_it() -> None:
    """One float32 run as the floor called a correct model diverged (docs/design.md)."""
    assert compute_floor([error(0.0, 0.0), *[error(1e-6, 1e-6)] * 4]).rel_l2 > 0.8e-6


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e6])
def test_never_below_a_unit_roundoff_of_the_scale(scale: float) -> None:
    found = compute_floor([error(0.0, 0.0, scale=scale)] * 5)
    assert found == Floor(2.0**-24, 2.0**-24 * scale, 5, scale)


def test_a_replicate_that_overflows_is_left_out() -> None:
    broken = error(math.inf, math.inf, wrong=2)
    assert compute_floor([broken, error(1e-6, 1e-5)]) == Floor(1e-6, 1e-5, 1, 1.0)
    assert compute_floor([broken, broken]) == Floor(ROUNDOFF, ROUNDOFF, 0, 1.0)


def test_no_replicate_and_another_shape_are_errors() -> None:
    with pytest.raises(CaptureError, match="at least one replicate"):
        compute_floor([])
    meter = FloorAccumulator()
    meter.add("stem", actual=np.zeros((2, 3), np.float32), expected=np.zeros((2, 4)))
    with pytest.raises(CaptureError, match=r"stem: .*shape \[2, 3\], expected \[2, 4\]"):
        meter.floors()


def test_meter_gathers_rows_and_survives_json() -> None:
    rng, meter = RNG(0), FloorAccumulator()
    exact = {"stem": rng.standard_normal((2, 3, 4)), "logits": rng.standard_normal((2, 10))}
    for _ in range(3):
        for row, tensor in exact.items():
            meter.add(row, actual=perturb(tensor.astype(np.float32), rng), expected=tensor)
    floors = meter.floors()
    assert list(floors) == ["stem", "logits"]
    assert floors["stem"].replicates == 3
    assert floor.from_json(json.loads(json.dumps(floor.to_json(floors)))) == floors


def test_perturb_moves_each_value_by_about_an_ulp() -> None:
    array = RNG(1).standard_normal((64, 33, 17)).astype(np.float32)
    moved = perturb(array, RNG(2))
    assert moved.dtype == np.float32
    assert moved.shape == array.shape
    relative = moved.astype(np.float64) / array - 1.0
    assert np.abs(relative).max() <= 2.0**-23 + 2.0**-24  # the factor's reach, and the rounding
    assert 0.2 < np.mean(relative == 0.0) < 0.6
    assert abs(np.mean(np.sign(relative))) < 0.02


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_perturb_moves_by_an_ulp_of_the_precision(dtype: type[np.floating]) -> None:
    array = RNG(1).standard_normal(70_000).astype(dtype)
    moved = perturb(array, RNG(2), dtype=array.dtype)
    assert moved.dtype == dtype
    wide = np.longdouble if dtype is np.float64 else np.float64
    relative = np.abs(moved.astype(wide) / array.astype(wide) - 1)
    assert relative.max() <= 1.5 * np.finfo(dtype).eps  # the factor's reach, and the rounding
    assert 0.2 < np.mean(moved == array) < 0.6


def test_perturb_leaves_what_is_not_finite() -> None:
    array = np.tile(np.array([np.inf, -np.inf, np.nan, 1.0], np.float32), 10_000)
    with np.errstate(all="raise"):
        moved = perturb(array, RNG(0))
    np.testing.assert_array_equal(moved.reshape(-1, 4)[:, :3], array.reshape(-1, 4)[:, :3])
    assert 0.2 < np.mean(moved[3::4] == 1.0) < 0.7


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(np.float16, 2.0**-11), (np.float32, ROUNDOFF), (np.float64, 2.0**-53), (np.int64, 0.0),
     (np.bool_, 0.0)],
)  # fmt: skip
def test_unit_roundoff_of_a_precision(dtype: type[np.generic], expected: float) -> None:
    assert unit_roundoff(np.dtype(dtype)) == expected
    still = compute_floor([error(0.0, 0.0, scale=3.0)], roundoff=expected)
    assert (still.rel_l2, still.max_abs) == (expected, 3.0 * expected)


def test_perturb_is_seeded_and_leaves_its_input() -> None:
    array = RNG(1).standard_normal(50_000).astype(np.float32)
    before = array.copy()
    assert np.array_equal(perturb(array, RNG(3)), perturb(array, RNG(3)))
    assert not np.array_equal(perturb(array, RNG(3)), perturb(array, RNG(4)))
    assert np.array_equal(array, before)


def test_perturb_keeps_zeros_scalars_empties_and_strides() -> None:
    assert perturb(np.zeros(5, np.float32), RNG(0)).tolist() == [0.0] * 5
    assert perturb(np.float32(3.0).reshape(()), RNG(0)).shape == ()
    assert perturb(np.zeros((0, 3), np.float32), RNG(0)).shape == (0, 3)
    array = RNG(1).standard_normal((4, 6)).astype(np.float32)
    np.testing.assert_array_equal(perturb(array.T, RNG(0)), perturb(array.T.copy(), RNG(0)))


@pytest.mark.parametrize(
    ("precision", "bits"), [("float64", 53), ("float32", 24), ("tf32", 11), ("float16", 11),
                            ("bfloat16", 8)],
)  # fmt: skip
def test_a_precision_scales_by_its_unit_roundoff(precision: str, bits: int) -> None:
    assert PRECISION_FACTORS[precision] == 2.0**-bits / ROUNDOFF
    scaled = Floor(1e-6, 1e-5, 5, 1.0).for_precision(precision)
    assert scaled == dataclasses.replace(
        scaled, rel_l2=1e-6 * 2.0 ** (24 - bits), max_abs=1e-5 * 2.0 ** (24 - bits)
    )


def test_rounding_to_float32_is_below_the_lowest_floor() -> None:
    exact = RNG(5).standard_normal(10_000)
    found = measure_error(actual=exact.astype(np.float32), expected=exact)
    assert found.rel_l2 < ROUNDOFF
    assert found.max_abs <= ROUNDOFF * found.scale


def test_no_floor_is_below_one_running_sums_rounding() -> None:
    meter = FloorAccumulator()
    exact = RNG(6).standard_normal((2, 64))
    for row in ("short", "long"):
        meter.add(row, actual=exact.astype(np.float32), expected=exact)
    plain = meter.floors()
    raised = meter.floors({"short": 6, "long": 6 * 16**2})
    assert raised["short"] == plain["short"]
    assert raised["long"].rel_l2 == pytest.approx(16.0 * ROUNDOFF)
    ratio = raised["long"].rel_l2 / plain["long"].rel_l2
    assert raised["long"].max_abs == pytest.approx(ratio * plain["long"].max_abs)
    assert (plain["long"].raised, raised["long"].raised) == (1.0, pytest.approx(ratio))


def test_a_lower_precision_scales_what_was_measured_and_not_a_running_sum() -> None:
    measured = Floor(1e-7, 1e-6, 5, 1.0)
    raised = measured.for_sum_length(4608)
    assert raised.raised > 10.0
    assert raised.for_precision("bfloat16").rel_l2 == pytest.approx(
        measured.for_precision("bfloat16").rel_l2
    )
    assert raised.for_precision("bfloat16").max_abs == pytest.approx(
        measured.for_precision("bfloat16").max_abs
    )
    assert raised.for_precision("bfloat16").raised == 1.0
    # A sum so long that it errs more than the operands' own rounding.
    longest = measured.for_sum_length(10**12)
    assert longest.for_precision("tf32").rel_l2 == pytest.approx(longest.rel_l2)
    # In float64 both are of one kind.
    assert raised.for_precision("float64").rel_l2 == pytest.approx(raised.rel_l2 * 2.0**-29)
