"""Picture files: a list of formats, limits that are checked before decoding, one error each.

Pillow guesses a file's format from its content and would start Ghostscript for PostScript, whatever
the file is called. Only the formats of `FORMATS` are tried.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from parity import files
from parity.errors import InputError
from parity.text import one_line

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

MAX_PIXELS = 100_000_000
MAX_SIDE = 65_535
"""Pixels: JPEG's limit. A longer picture is no photograph, and a resize would not fit in memory."""

# Pillow converts these to 8-bit RGB or grey as one expects; it would clip 16-bit pixels.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# Whatever damaged files make Pillow's decoders raise.
_DECODING_ERRORS = (
    OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, ArithmeticError,
    AttributeError, RuntimeError, NotImplementedError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


def decode(path: Path, mode: Literal["RGB", "L"], *, upright: bool = False) -> Image.Image:
    """Return the pixels of a picture's first frame; `upright`: turned as its metadata says.

    Raises InputError for a file that is none, is damaged, has more than `MAX_PIXELS` or a side of
    more than `MAX_SIDE` pixels, or pixels that have no 8 bits a channel.
    """
    try:
        stream = files.open_regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        with stream, warnings.catch_warnings():
            # Pillow only warns of a picture of up to twice its limit; ours is stricter.
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=FORMATS) as picture:
                _require_decodable(picture, path)
                turned = ImageOps.exif_transpose(picture) if upright else picture
                return turned.convert(mode)
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: is no image ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except _DECODING_ERRORS as error:
        reason = one_line(str(error), longest=120) or type(error).__name__
        raise InputError(f"{path}: the image is damaged or truncated: {reason}") from error


def _require_decodable(picture: Image.Image, path: Path) -> None:
    size = f"{path}: {picture.width}×{picture.height}"
    if picture.width * picture.height > MAX_PIXELS:
        raise InputError(f"{size} are more than {MAX_PIXELS:,} pixels: make it smaller")
    if max(picture.size) > MAX_SIDE:
        raise InputError(f"{size}: a side has more than {MAX_SIDE:,} pixels: crop it")
    if picture.mode not in _MODES:
        raise InputError(f"{path}: pixels of mode {picture.mode!r}: save it with 8 bits a channel")
