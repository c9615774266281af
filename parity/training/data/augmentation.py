"""Random changes of training images, composed to one affine map, as Keras's generator has them.

The ranges have the meaning of `keras.preprocessing.image.ImageDataGenerator`: rotation and shear
in degrees, shifts as shares of height and width (or pixels, from 1 on), zoom as a share. Each
change is drawn from U(−range, range), the zoom of either axis from U(1 − zoom, 1 + zoom).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from parity.errors import UsageError

Matrix = NDArray[np.float64]

_DRAWS = 0x617567
"""Separates these random numbers from others with the same seed."""


@dataclass(frozen=True)
class Augmentation:
    """The ranges of random changes; 0 is none. Raises `UsageError` for a range that is invalid."""

    rotation: float = 0.0
    width_shift: float = 0.0
    height_shift: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    horizontal_flip: bool = False

    def __post_init__(self) -> None:
        for name in ("rotation", "width_shift", "height_shift", "shear", "zoom"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"augmentation: {name} must be 0 or more, found {value!r}")
        if self.zoom >= 1:
            raise UsageError(f"augmentation: zoom must be less than 1, found {self.zoom!r}")

    @property
    def is_identity(self) -> bool:
        """Whether no image is changed."""
        return self == Augmentation()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Change:
    """One image's changes: angles in degrees, shifts in pixels, zooms as factors."""

    rotation: float = 0.0
    row_shift: float = 0.0
    column_shift: float = 0.0
    shear: float = 0.0
    row_zoom: float = 1.0
    column_zoom: float = 1.0
    flip: bool = False

    @classmethod
    def draw(
        cls,
        augmentation: Augmentation,
        size: tuple[int, int],
        *,
        seed: int,
        epoch: int,
        index: int,
    ) -> Self:
        """Draw the changes of image `index` in an epoch, for images of `size` (H, W)."""
        random = np.random.default_rng([_DRAWS, seed, epoch, index])
        # All are drawn, whatever the ranges: a range that is 0 changes no other draw.
        share = random.uniform(-1, 1, 6)
        flip = bool(random.random() < 0.5)
        return cls(
            rotation=augmentation.rotation * share[0],
            row_shift=_pixels(augmentation.height_shift, size[0]) * share[1],
            column_shift=_pixels(augmentation.width_shift, size[1]) * share[2],
            shear=augmentation.shear * share[3],
            row_zoom=1 + augmentation.zoom * share[4],
            column_zoom=1 + augmentation.zoom * share[5],
            flip=flip and augmentation.horizontal_flip,
        )

    def matrix(self, size: tuple[int, int]) -> Matrix:
        """Return the 3×3 map from an output's (row, column, 1) to the input's.

        Rotation · shift · shear · zoom of (column, row) about the image's centre, as
        `apply_affine_transform` of Keras composes them, then the flip, which its generator does
        afterwards. Two things are as Keras's documentation has them, not its code (3.15): the width
        shift moves along the width, and the centre is that of images that are not square, too.
        """
        height, width = size
        angle, shear = math.radians(self.rotation), math.radians(self.shear)
        cosine, sine = math.cos(angle), math.sin(angle)
        product = (
            np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
            @ np.array([[1, 0, self.column_shift], [0, 1, self.row_shift], [0, 0, 1]])
            @ np.array([[1, -math.sin(shear), 0], [0, math.cos(shear), 0], [0, 0, 1]])
            @ np.diag([self.column_zoom, self.row_zoom, 1.0])
        )
        centre = np.array([width / 2 - 0.5, height / 2 - 0.5])
        product[:2, 2] += centre - product[:2, :2] @ centre
        matrix: Matrix = product[[1, 0, 2]][:, [1, 0, 2]]
        if self.flip:
            matrix = matrix @ np.array([[1, 0, 0], [0, -1, width - 1.0], [0, 0, 1]])
        return matrix


def _pixels(amount: float, length: int) -> float:
    return amount * length if amount < 1 else amount


def apply_matrix(image: NDArray[np.float32], matrix: Matrix) -> NDArray[np.float32]:
    """Resample an image (H, W, C) through a map of output to input coordinates.

    Interpolation is bilinear; outside the image its nearest pixel is taken. The arithmetic is that
    of `scipy.ndimage.affine_transform` of order 1 and mode "nearest".
    """
    height, width, _ = image.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    y = matrix[0, 0] * rows + matrix[0, 1] * columns + matrix[0, 2]
    x = matrix[1, 0] * rows + matrix[1, 1] * columns + matrix[1, 2]
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down = (y - top).astype(np.float32)[..., None]
    along = (x - left).astype(np.float32)[..., None]
    flat = image.reshape(height * width, -1)
    upper = flat[top * width + left] * (1 - along) + flat[top * width + right] * along
    lower = flat[bottom * width + left] * (1 - along) + flat[bottom * width + right] * along
    result: NDArray[np.float32] = upper * (1 - down) + lower * down
    return result
