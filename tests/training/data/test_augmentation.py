"""Augmentation: the map is Keras's, the resampling scipy's, the draws depend on nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parity.errors import UsageError
from parity.training.data.augmentation import Augmentation, Change, apply_matrix

EVERYTHING = Augmentation(20, 0.2, 0.2, 0.2, 0.2, horizontal_flip=True)


def image(height=24, width=24, channels=3, seed=0):
    return np.random.default_rng(seed).random((height, width, channels), np.float32) * 255


CHANGES = [
    Change(rotation=17.0),
    Change(row_shift=3.25),
    Change(column_shift=-2.5),
    Change(shear=11.0),
    Change(row_zoom=0.8, column_zoom=1.15),
    Change(rotation=-9, row_shift=1.5, column_shift=2, shear=7, row_zoom=1.1, column_zoom=0.9),
]


@pytest.mark.framework
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("flip", [False, True])
def test_a_change_is_that_of_keras(change, flip):
    keras_image = pytest.importorskip("keras.src.legacy.preprocessing.image")
    scipy_ndimage = pytest.importorskip("scipy.ndimage")
    # Keras's function still uses the namespace that newer releases of scipy have taken away.
    if not hasattr(scipy_ndimage, "interpolation"):
        keras_image.scipy.ndimage.interpolation = scipy_ndimage
    x = image()
    expected = keras_image.apply_affine_transform(
        x,
        theta=change.rotation,
        # Its `tx` moves along the second axis, which is the width, though the generator draws it
        # from the range of height shifts.
        tx=change.column_shift,
        ty=change.row_shift,
        shear=change.shear,
        zx=change.column_zoom,
        zy=change.row_zoom,
        row_axis=0,
        col_axis=1,
        channel_axis=2,
        fill_mode="nearest",
    )
    if flip:
        expected = expected[:, ::-1]
    matrix = Change(**{**vars_of(change), "flip": flip}).matrix(x.shape[:2])
    np.testing.assert_allclose(apply_matrix(x, matrix), expected, atol=2e-3)


def vars_of(change):
    return {name: getattr(change, name) for name in Change.__dataclass_fields__}


def test_the_resampling_is_that_of_scipy_for_images_that_are_not_square():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = image(20, 31)
    matrix = CHANGES[-1].matrix((20, 31))
    expected = np.stack(
        [
            ndimage.affine_transform(
                x[..., c], matrix[:2, :2], matrix[:2, 2], order=1, mode="nearest"
            )
            for c in range(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(apply_matrix(x, matrix), expected, atol=2e-3)


def test_shifts_move_along_their_axes_and_repeat_the_border():
    x = image(10, 14)
    down = apply_matrix(x, Change(row_shift=2).matrix((10, 14)))
    np.testing.assert_allclose(down[:8], x[2:], rtol=1e-6)
    np.testing.assert_allclose(down[8:], np.broadcast_to(x[-1:], (2, 14, 3)), rtol=1e-6)
    along = apply_matrix(x, Change(column_shift=3).matrix((10, 14)))
    np.testing.assert_allclose(along[:, :11], x[:, 3:], rtol=1e-6)


def test_the_centre_of_an_image_that_is_not_square_stays():
    for change in (Change(rotation=90), Change(row_zoom=0.5, column_zoom=0.5), Change(shear=30)):
        matrix = change.matrix((20, 30))
        np.testing.assert_allclose(matrix @ [9.5, 14.5, 1], [9.5, 14.5, 1], atol=1e-12)


def test_the_flip_and_the_identity_are_exact():
    x = image()
    np.testing.assert_array_equal(apply_matrix(x, Change().matrix((24, 24))), x)
    np.testing.assert_array_equal(apply_matrix(x, Change(flip=True).matrix((24, 24))), x[:, ::-1])


def test_a_draw_depends_on_seed_epoch_and_index_alone():
    def draw(seed=1, epoch=2, index=3):
        return Change.draw(EVERYTHING, (32, 32), seed=seed, epoch=epoch, index=index)

    assert draw() == draw()
    assert len({draw(), draw(seed=2), draw(epoch=3), draw(index=4)}) == 4
    # A range that is 0 leaves the other draws as they are.
    rotated = Change.draw(Augmentation(rotation=20), (32, 32), seed=1, epoch=2, index=3)
    assert rotated == Change(rotation=draw().rotation)


def test_the_draws_fill_their_ranges():
    changes = [Change.draw(EVERYTHING, (50, 40), seed=0, epoch=1, index=i) for i in range(2000)]
    limits = {
        "rotation": (-20, 20), "row_shift": (-10, 10), "column_shift": (-8, 8),
        "shear": (-0.2, 0.2), "row_zoom": (0.8, 1.2), "column_zoom": (0.8, 1.2),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        values = np.array([getattr(change, name) for change in changes])
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
    assert 0.45 < np.mean([change.flip for change in changes]) < 0.55


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"rotation": -1.0}, "rotation must be 0 or more, found -1.0"),
        ({"zoom": 1.0}, "zoom must be less than 1, found 1.0"),
        ({"shear": math.nan}, "shear must be 0 or more, found nan"),
    ],
)
def test_invalid_ranges_are_refused(ranges, message):
    with pytest.raises(UsageError, match=message):
        Augmentation(**ranges)
