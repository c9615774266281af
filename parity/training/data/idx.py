"""IDX files, the format of MNIST and Fashion-MNIST: read from a folder, compressed or not.

The format: two zero bytes, the type (8 is unsigned byte), the number of axes, each axis's length
as a big-endian 32-bit number, the values (Y. LeCun, "The MNIST database").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity import files
from parity.errors import InputError

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""The class names of Fashion-MNIST, whose files do not hold them."""

MAX_VALUES = 2**31


FILE_MARK = "-ubyte"
"""What the name of each file has."""


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder holds the training images as an IDX file."""
    return has_split(folder, "train")


def has_split(folder: Path, split: str) -> bool:
    """Return whether a folder holds the images of `train` or `t10k`."""
    return _find(folder, split, "images-idx3") is not None


def class_names(folder: Path, count: int) -> tuple[str, ...]:
    """Return the names of Fashion-MNIST for a folder that is called so, else numbers."""
    if "fashion" in folder.resolve().name.lower() and count == len(FASHION_CLASSES):
        return FASHION_CLASSES
    return tuple(map(str, range(count)))


def read_split(folder: Path, split: str) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Return the pixels (N, H, W) and the labels of `train` or `t10k`. Raises `InputError`."""
    images_path = _find(folder, split, "images-idx3")
    labels_path = _find(folder, split, "labels-idx1")
    if images_path is None or labels_path is None:
        missing = "images-idx3" if images_path is None else "labels-idx1"
        raise InputError(f"{folder}: there is no {split}-{missing}-ubyte or .gz of it")
    pixels, labels = _read(images_path, axes=3), _read(labels_path, axes=1)
    if len(pixels) != len(labels):
        raise InputError(
            f"{labels_path}: expected {len(pixels)} labels, one for each image, found {len(labels)}"
        )
    if not len(labels):
        raise InputError(f"{images_path}: holds no image")
    return pixels, tuple(map(int, labels))


def _find(folder: Path, split: str, kind: str) -> Path | None:
    for name in (f"{split}-{kind}{FILE_MARK}", f"{split}-{kind}{FILE_MARK}.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def _read(path: Path, *, axes: int) -> NDArray[np.uint8]:
    try:
        content = files.read_bytes(path, longest=MAX_VALUES + 2**16)
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes((0, 0, 8, axes)):
        raise InputError(f"{path}: is not an IDX file of unsigned bytes with {axes} axes")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", axes, offset=4))
    count = math.prod(shape)
    if count > MAX_VALUES or len(content) != start + count:
        raise InputError(
            f"{path}: expected {count} values of shape {shape}, found {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, count, offset=start).reshape(shape)
