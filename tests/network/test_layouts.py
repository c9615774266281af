"""Activations by what their axes mean; sizes differ, so that no two axes can be mixed up."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parity.network import layouts


def numbered(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@given(shape=st.tuples(*[st.integers(1, 4)] * 4))
def test_the_two_orders_are_views_that_undo_each_other(shape):
    array = numbered(*shape)
    moved = layouts.to_nhwc(array)
    assert np.shares_memory(moved, array)
    assert np.array_equal(layouts.to_nchw(moved), array)
    assert layouts.to_nchw(moved).shape == array.shape


def test_activations_move_channels_last():
    image = numbered(2, 3, 5, 4)
    assert layouts.to_nhwc(image)[1, 4, 2, 0] == image[1, 0, 4, 2]
    tokens = numbered(2, 3, 5)
    assert layouts.to_nhwc(tokens) is tokens
    assert layouts.to_nchw(numbered(2, 7)).shape == (2, 7)
