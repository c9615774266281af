"""Constants that are given the reference's values, where they are at most a rounding from them."""

from __future__ import annotations

import numpy as np

from parity.runtimes.constants import has_constants, match_constants, use_constants


def test_a_rounded_constant_becomes_the_value():
    table = np.cos(np.arange(50.0))
    with use_constants(table):
        assert has_constants()
        assert np.array_equal(match_constants(table.astype(np.float32)), table)
    assert not has_constants()


def test_a_constant_that_is_further_away_stays():
    value = np.float32(1.0)
    unit = np.spacing(value)
    with use_constants(np.array([1.0, 5.0])):
        moved = np.array([value + unit, value + 2 * unit, 1e-9, 1.000001], np.float32)
        wide = moved.astype(np.float64)
        assert match_constants(moved).tolist() == [1.0, *wide[1:].tolist()]


def test_without_values_nothing_changes():
    array = np.array([0.1, 0.2], np.float32)
    assert np.array_equal(match_constants(array), array.astype(np.float64))
    with use_constants(np.array([])):
        assert not has_constants()
        assert np.array_equal(match_constants(array), array.astype(np.float64))
