"""The moments of weights: the same in every order of the values."""

import numpy as np
import pytest

from parity.network.moments import moments_of


@pytest.mark.parametrize("shape", [(3, 4), (1,), (300, 1000)])
def test_moments_are_those_in_float64_and_do_not_depend_on_the_order(shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wide = values.astype(np.float64)
    expected = (wide.sum(), (wide**2).sum(), wide.min(), wide.max())
    np.testing.assert_allclose(moments_of(values), expected, rtol=1e-12)
    np.testing.assert_allclose(moments_of(values.T[::-1]), expected, rtol=1e-9)


def test_equal_sums_of_other_values_have_other_moments():
    one, other = np.array([1.0, 3.0]), np.array([2.0, 2.0])
    assert moments_of(one)[0] == moments_of(other)[0]
    assert moments_of(one) != moments_of(other)


def test_what_has_no_moments():
    assert moments_of(np.zeros((0, 3))) is None
    assert moments_of(np.ones(2, np.complex64)) is None
