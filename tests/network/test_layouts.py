"""Each permutation by what its axes mean; sizes differ, so that no two axes can be mixed up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.network import layouts


def numbered(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def to_keras(kernel, kind="conv"):
    return layouts.to_keras(kernel, kind=kind, role="kernel")


def test_a_kernel_moves_each_element_to_its_place():
    kernel = numbered(5, 4, 3, 2)
    hwio = to_keras(kernel)
    assert hwio.shape == (3, 2, 4, 5)
    for o, i, h, w in np.ndindex(kernel.shape):
        assert hwio[h, w, i, o] == kernel[o, i, h, w]


def test_a_square_kernel_keeps_height_and_width_apart():
    kernel = numbered(1, 1, 3, 3)
    hwio = to_keras(kernel)
    assert hwio[0, 2, 0, 0] == kernel[0, 0, 0, 2]
    assert not np.array_equal(hwio[..., 0, 0], kernel[0, 0].T)


def test_a_square_dense_kernel_is_transposed():
    kernel = numbered(3, 3)
    assert np.array_equal(to_keras(kernel, "dense"), kernel.T)
    assert not np.array_equal(to_keras(kernel, "dense"), kernel)


def test_depthwise_puts_output_m_of_channel_c_at_c_times_m():
    kernel = numbered(3 * 2, 1, 5, 4)
    hwcm = layouts.to_hwcm(kernel, multiplier=2)
    assert hwcm.shape == (5, 4, 3, 2)
    for c, m in np.ndindex(3, 2):
        assert np.array_equal(hwcm[:, :, c, m], kernel[c * 2 + m, 0])
    assert np.array_equal(layouts.from_hwcm(hwcm), kernel)


def to_canonical(kernel):
    return layouts.to_canonical(kernel, kind="conv", role="kernel")


@pytest.mark.parametrize(
    ("to", "back", "rank"),
    [
        (to_keras, to_canonical, 4),
        (to_keras, to_canonical, 2),
        (layouts.to_nhwc, layouts.to_nchw, 4),
    ],
)
@given(data=st.data())
def test_permutations_are_views_that_undo_each_other(to, back, rank, data):
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * rank))
    array = numbered(*shape)
    moved = to(array)
    assert np.shares_memory(moved, array)
    assert np.array_equal(back(moved), array)
    assert back(moved).shape == array.shape


def test_activations_move_channels_last():
    image = numbered(2, 3, 5, 4)
    assert layouts.to_nhwc(image)[1, 4, 2, 0] == image[1, 0, 4, 2]
    tokens = numbered(2, 3, 5)
    assert layouts.to_nhwc(tokens) is tokens
    assert layouts.to_nchw(numbered(2, 7)).shape == (2, 7)


@pytest.mark.parametrize(
    ("kind", "shape", "in_keras"),
    [
        ("conv", (7, 5, 3), (3, 5, 7)),
        ("conv", (7, 5, 3, 2), (3, 2, 5, 7)),
        ("conv", (7, 5, 3, 2, 4), (3, 2, 4, 5, 7)),
        # PyTorch's transposed kernels are (I, O, H, W), Keras's (H, W, O, I).
        ("conv_transpose", (7, 5, 3, 2), (3, 2, 5, 7)),
        ("depthwise_conv", (7, 1, 3, 2), (3, 2, 7, 1)),
        ("dense", (7, 5), (5, 7)),
    ],
)
def test_kernels_of_every_kind_reach_keras_and_return(kind, shape, in_keras):
    kernel = numbered(*shape)
    moved = layouts.to_keras(kernel, kind=kind, role="kernel")
    assert moved.shape == in_keras
    assert layouts.keras_shape(shape, kind=kind, role="kernel") == in_keras
    assert np.array_equal(layouts.to_canonical(moved, kind=kind, role="kernel"), kernel)


@pytest.mark.parametrize("role", ["bias", "gamma", "beta", "mean", "variance"])
def test_vectors_stay_as_they_are(role):
    vector = numbered(6)
    assert layouts.to_keras(vector, kind="batch_norm", role=role) is vector
    assert layouts.to_canonical(vector, kind="batch_norm", role=role) is vector
    assert layouts.keras_shape((6,), kind="batch_norm", role=role) == (6,)
