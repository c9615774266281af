"""Decoding and resizing of image files: a list of formats, and a limit on pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from parity.errors import InputError
from parity.network.inputs.picture import decode

MAX_BYTES = 512 * 2**20
"""Bytes of an image file that is hashed."""


def read_image(path: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return the pixels of a file, resized: (H, W, C). Raises `InputError`."""
    return _resize(decode(path, _mode(channels)), size, channels)


def find_damage(path: Path) -> str | None:
    """Return why a file is no image that can be decoded completely; None if it is one."""
    try:
        decode(path, "RGB")
    except InputError as error:
        return str(error)
    return None


def resize_pixels(
    pixels: NDArray[np.uint8], size: tuple[int, int], channels: int
) -> NDArray[np.uint8]:
    """Resize grey pixels (H, W), repeated over `channels`: (H, W, C)."""
    return _resize(Image.fromarray(pixels).convert(_mode(channels)), size, channels)


def _mode(channels: int) -> Literal["RGB", "L"]:
    return "L" if channels == 1 else "RGB"


def _resize(picture: Image.Image, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8).reshape(height, width, channels)
