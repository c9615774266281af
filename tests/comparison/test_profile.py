"""Where in a tensor the error lies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parity.comparison.profile import measure_profile


def profile(actual, expected):
    return measure_profile(
        actual=actual, expected=expected, stage="s", row="r", subject="keras", floor_max=1e-6
    )


def test_a_border_error_stands_on_the_border() -> None:
    expected = np.random.default_rng(0).normal(size=(2, 5, 9, 7))
    actual = expected.astype(np.float64)
    actual[1, 3, 0, :] += 0.5
    found = profile(actual, expected)
    assert found.shape == (2, 5, 9, 7)
    assert found.spatial[0] == pytest.approx((0.5,) * 7)
    assert not any(any(line) for line in found.spatial[1:])
    assert found.channels == pytest.approx((0, 0, 0, 0.5, 0))


def test_one_number_an_item_is_one_channel() -> None:
    expected = np.array([1.0, 2.0, 3.0])
    found = profile(np.array([1.0, 2.5, 3.0]), expected)
    assert (found.shape, found.spatial, found.channels) == ((3,), (), (0.5,))


def test_the_channels_of_a_sequence_come_last() -> None:
    expected = np.zeros((2, 3, 5))
    actual = expected.copy()
    actual[1, 2, 4] = 0.5
    found = profile(actual, expected)
    assert (found.spatial, found.channels) == ((), (0, 0, 0, 0, 0.5))


def test_pooling_keeps_the_largest() -> None:
    expected = np.zeros((1, 5000, 130, 3), np.float32)
    actual = expected.copy()
    actual[0, 4999, 129, 2] = 2.0
    found = profile(actual, expected)
    assert (len(found.spatial), len(found.spatial[0]), len(found.channels)) == (64, 3, 4096)
    assert found.spatial[63][2] == found.channels[4095] == 2.0
    assert sum(map(sum, found.spatial)) == sum(found.channels) == 2.0


def test_no_positions_without_height_and_width() -> None:
    found = profile(np.ones((3, 4)), np.zeros((3, 4)))
    assert found.spatial == ()
    assert found.channels == (1.0,) * 4


def test_what_is_not_finite_on_one_side_is_infinite() -> None:
    expected = np.array([[1.0, np.nan, np.inf, np.inf, 2.0]])
    actual = np.array([[np.nan, np.nan, np.inf, -np.inf, np.inf]])
    assert profile(actual, expected).channels == (math.inf, 0.0, 0.0, math.inf, math.inf)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="r: expected"):
        profile(np.ones((1, 2)), np.ones((1, 3)))
