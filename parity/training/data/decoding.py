"""Decoding and resizing of image files: a list of formats, and a limit on pixels."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from parity.errors import InputError
from parity.network.inputs.sources.photograph import MAX_PIXELS
from parity.text import one_line

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""The formats that Pillow may try; others have decoders that few have tested on hostile files."""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Pillow converts these to 8-bit RGB or grey as one expects; it would clip 16-bit pixels.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# What damaged files make Pillow's decoders raise.
_DECODING_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, struct.error,
)  # fmt: skip


def read_image(path: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return the pixels of a file, resized: (H, W, C). Raises `InputError`."""
    return _resize(_decode(path, _mode(channels)), size, channels)


def find_damage(path: Path) -> str | None:
    """Return why a file is no image that can be decoded completely; None if it is one."""
    try:
        _decode(path, "RGB")
    except InputError as error:
        return str(error)
    return None


def resize_pixels(
    pixels: NDArray[np.uint8], size: tuple[int, int], channels: int
) -> NDArray[np.uint8]:
    """Resize grey pixels (H, W), repeated over `channels`: (H, W, C)."""
    return _resize(Image.fromarray(pixels).convert(_mode(channels)), size, channels)


def _mode(channels: int) -> str:
    return {1: "L", 3: "RGB"}[channels]


def _resize(picture: Image.Image, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    height, width = size
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8).reshape(height, width, channels)


def _decode(path: Path, mode: str) -> Image.Image:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        with warnings.catch_warnings():
            # The limit is checked below, and damaged metadata does not matter here.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise InputError(
                        f"{path}: {picture.width}×{picture.height} are more than {MAX_PIXELS:,} "
                        "pixels: make it smaller"
                    )
                if picture.mode not in _MODES:
                    raise InputError(
                        f"{path}: pixels of mode {picture.mode!r}: save it with 8 bits a channel"
                    )
                return picture.convert(mode)
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: is not an image ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except _DECODING_ERRORS as error:
        raise InputError(
            f"{path}: cannot be decoded: {one_line(str(error), longest=120)}"
        ) from error
