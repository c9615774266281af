"""A mask that is added to scores does not hide the errors of the scores beside it."""

from __future__ import annotations

import numpy as np
import pytest

from parity.numerics.checksum import CHUNK
from parity.numerics.distance import PairwiseErrors, measure_error
from parity.numerics.floor import compute_floor
from parity.numerics.verdict import Status, judge_error


def scores(mask: float, shift: float = 0.0, *, size: int = 4096) -> np.ndarray:
    """Random scores, of which the last sixteenth is masked."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal(size)
    values[-size // 16 :] += mask
    values[: size // 16] += shift
    return values


@pytest.mark.parametrize("mask", [-1e9, -1e30, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("size", [4096, 3 * CHUNK])
def test_an_error_beside_a_mask_is_that_of_the_others(mask, size):
    expected = scores(mask, size=size)
    rounded = expected.astype(np.float32)
    floor = compute_floor([measure_error(actual=rounded, expected=expected)])
    assert floor.rel_l2 < 1e-7
    assert floor.max_abs < 1e-6
    assert judge_error(measure_error(actual=rounded, expected=expected), floor).status.passes
    wrong = scores(mask, 1e-3, size=size).astype(np.float32)
    error = measure_error(actual=wrong, expected=expected)
    assert error.max_abs == pytest.approx(1e-3, rel=1e-3)
    assert error.worst is not None
    assert error.worst[0] < size // 16
    assert judge_error(error, floor).status is Status.DIVERGED


def test_several_tensors_at_once_have_the_same_errors():
    expected = scores(-1e9, size=2 * CHUNK)
    others = [scores(-1e9, shift, size=2 * CHUNK).astype(np.float32) for shift in (0.0, 1e-3, 0.1)]
    pairwise = PairwiseErrors([each.dtype for each in (expected, *others)], with_scale=False)
    for start in (0, CHUNK):
        pairwise.add([each[start : start + CHUNK] for each in (expected, *others)])
    for place, other in enumerate(others, 1):
        alone = measure_error(actual=other, expected=expected)
        found = pairwise.metrics(0, place, expected.shape)
        assert (found.max_abs, found.worst) == (alone.max_abs, alone.worst)
        assert found.rel_l2 == pytest.approx(alone.rel_l2, rel=1e-12)
    assert pairwise.metrics(2, 3, expected.shape).max_abs == pytest.approx(0.099, rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * np.where(x < -1e8, 0.5, 1.0),  # another mask
        lambda x: x * np.where(x < -1e8, 1.005, 1.0),  # nearly the same
        lambda x: np.where(x < -1e8, 0.0, x),  # no mask
        lambda x: np.where(np.arange(len(x)) == 7, -1e9, x),  # one more value is masked
    ],
)
def test_another_mask_is_an_error(change):
    expected = scores(-1e9)
    error = measure_error(actual=change(expected), expected=expected)
    assert error.max_abs > 1e6
    assert error.rel_l2 > 1e-3
    narrow = measure_error(actual=change(expected).astype(np.float32), expected=expected)
    assert narrow.max_abs > 1e6


def test_a_mask_is_the_same_up_to_the_rounding_of_its_type():
    expected = scores(-1e9)
    other = expected * np.where(expected < -1e8, 1 + 1e-12, 1.0)
    # Both are float64: this is more than rounding.
    assert measure_error(actual=other, expected=expected).max_abs > 1e-4
    assert measure_error(actual=other.astype(np.float32), expected=expected).max_abs < 1e-6
    short = expected.astype(np.float32)
    bits = short.view(np.uint32)
    bits[:] = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    # bfloat16's error is that of the scores, and not of the mask.
    assert 1e-3 < measure_error(actual=short, expected=expected).max_abs < 0.1


@pytest.mark.parametrize(
    "expected",
    [
        scores(-1e9) * np.where(np.arange(4096) % 2, 1e-9, 1e9),  # all sizes between
        np.abs(scores(-1e9)),  # large values are no mask
        np.full(64, -1e9),  # nothing beside it
    ],
)
def test_large_values_that_are_no_mask_count(expected):
    actual = expected * (1 + 1e-3)
    assert measure_error(actual=actual, expected=expected).rel_l2 == pytest.approx(1e-3, rel=1e-6)
