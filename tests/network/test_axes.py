"""Each axis order by what its axes mean; sizes differ, so that no two axes can be mixed up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.network import axes, kinds

OIHW, HWIO = "O I H W", "H W I O"
DEPTHWISE, HWCM = "(C M) 1 H W", "H W C M"


def numbered(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_each_element_moves_to_its_place():
    kernel = numbered(5, 4, 3, 2)
    hwio = axes.reorder(kernel, OIHW, HWIO)
    assert hwio.shape == (3, 2, 4, 5)
    for o, i, h, w in np.ndindex(kernel.shape):
        assert hwio[h, w, i, o] == kernel[o, i, h, w]


def test_a_square_kernel_keeps_height_and_width_apart():
    kernel = numbered(1, 1, 3, 3)
    hwio = axes.reorder(kernel, OIHW, HWIO)
    assert hwio[0, 2, 0, 0] == kernel[0, 0, 0, 2]
    assert not np.array_equal(hwio[..., 0, 0], kernel[0, 0].T)


def test_a_square_dense_kernel_is_transposed():
    kernel = numbered(3, 3)
    assert np.array_equal(axes.reorder(kernel, "O I", "I O"), kernel.T)
    assert not np.array_equal(axes.reorder(kernel, "O I", "I O"), kernel)


def test_depthwise_puts_output_m_of_channel_c_at_c_times_m():
    kernel = numbered(3 * 2, 1, 5, 4)
    hwcm = axes.reorder(kernel, DEPTHWISE, HWCM, shape=(5, 4, 3, 2))
    assert hwcm.shape == (5, 4, 3, 2)
    for c, m in np.ndindex(3, 2):
        assert np.array_equal(hwcm[:, :, c, m], kernel[c * 2 + m, 0])
    assert np.array_equal(axes.reorder(hwcm, HWCM, DEPTHWISE), kernel)


@pytest.mark.parametrize("shape", [(), (5, 4, 3, 4), (5, 4)])
def test_an_axis_whose_parts_are_not_known_is_the_first_of_them(shape):
    kernel = numbered(3 * 2, 1, 5, 4)
    assert axes.reorder(kernel, DEPTHWISE, HWCM, shape=shape).shape == (5, 4, 6, 1)


@pytest.mark.parametrize(
    ("source", "target", "rank"),
    [(OIHW, HWIO, 4), ("O I", "I O", 2), ("O I ...", "... I O", 3), ("O I ...", "... I O", 5)],
)
@given(data=st.data())
def test_permutations_are_views_that_undo_each_other(source, target, rank, data):
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * rank))
    array = numbered(*shape)
    moved = axes.reorder(array, source, target)
    assert np.shares_memory(moved, array)
    assert moved.shape == axes.reorder_shape(shape, source, target)
    assert np.array_equal(axes.reorder(moved, target, source), array)


def test_a_permutation_is_what_numpy_transposes_by():
    kernel = numbered(5, 4, 3, 2)
    order = axes.permutation(OIHW, HWIO)
    assert np.array_equal(kernel.transpose(order), axes.reorder(kernel, OIHW, HWIO))


@pytest.mark.parametrize(
    ("order", "shape", "expected"),
    [
        ("O I", (3, 2), True),
        ("O I", (3, 2, 1), False),
        ("O I ...", (3, 2), False),
        ("O I ...", (3, 2, 1, 1, 1), True),
        ("O I ...", (3, 2, 1, 1, 1, 1), False),
        (DEPTHWISE, (3, 1, 2, 2), True),
        (DEPTHWISE, (3, 2, 2, 2), False),
    ],
)
def test_what_fits_an_order(order, shape, expected):
    assert axes.fits(order, shape) is expected


def test_a_tensor_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 2, 2, 2\) does not have the axes \(C·M, 1, H, W\)"):
        axes.reorder(numbered(3, 2, 2, 2), DEPTHWISE, HWCM)


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
    role = kinds.get(kind).role("kernel")
    moved = role.to_keras(kernel)
    assert moved.shape == in_keras
    assert role.keras_shape(shape) == in_keras
    assert np.array_equal(role.from_keras(moved), kernel)


@pytest.mark.parametrize("role", ["bias", "gamma", "beta", "mean", "variance"])
def test_vectors_stay_as_they_are(role):
    vector = numbered(6)
    found = kinds.get("batch_norm" if role != "bias" else "conv").role(role)
    assert found.to_keras(vector) is vector
    assert found.from_keras(vector) is vector
    assert found.keras_shape((6,)) == (6,)


def test_parts_of_an_axis_are_joined_and_split():
    """An axis of one order may be several of another: the heads of an attention's projection."""
    kernel = numbered(6, 2, 5)
    joined = axes.reorder(kernel, "I O1 O2", "O I")
    assert joined.shape == (10, 6)
    for i, first, second in np.ndindex(kernel.shape):
        assert joined[first * 5 + second, i] == kernel[i, first, second]
    assert np.array_equal(axes.reorder(joined, "O I", "I O1 O2", shape=(6, 2, 5)), kernel)
    assert np.array_equal(axes.reorder(numbered(2, 3, 4), "I1 I2 O", "O I"),
                          numbered(6, 4).T)  # fmt: skip
    assert axes.reorder(numbered(2, 5), "C1 C2", "C").shape == (10,)


@pytest.mark.parametrize(
    ("source", "target", "shape", "expected"),
    [
        ("H W I O", "O I ...", (3, 2, 4, 5), (5, 4, 3, 2)),
        ("T I O", "O I ...", (3, 4, 5), (5, 4, 3)),
        ("D H W O I", "I O ...", (1, 2, 3, 4, 5), (5, 4, 1, 2, 3)),
        ("H W C M", "(C M) 1 ...", (3, 2, 4, 5), (20, 1, 3, 2)),
        ("H W 1 (C M)", "(C M) 1 ...", (3, 2, 1, 5), (5, 1, 3, 2)),
        ("1 1 C", "C", (1, 1, 5), (5,)),
    ],
)
def test_spatial_axes_may_have_names_in_one_order(source, target, shape, expected):
    moved = axes.reorder(numbered(*shape), source, target)
    assert moved.shape == expected
    back = axes.reorder(moved, target, source, shape=shape)
    assert np.array_equal(back, numbered(*shape))


@pytest.mark.parametrize(
    ("equation", "renamed"),
    [
        ("jkoi,bji->bjko", "abcd,ead->eabc"),
        ("bhid, bhjd -> bhij", "abcd,abed->abce"),
        ("...ij,jk->...ik", "...ab,bc->...ac"),
        ("ba,cb", "ba,cb"),
    ],
)
def test_the_indices_of_an_equation_have_one_name_each(equation, renamed):
    assert axes.rename_indices(equation) == renamed
    assert axes.rename_indices(renamed) == renamed


def test_the_word_of_each_axis():
    assert axes.split_words("N (H W) C") == ("N", "(H W)", "C")
