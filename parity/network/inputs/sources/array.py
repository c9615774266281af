"""An array in memory, or in an .npy or .npz file."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import files
from parity.errors import InputError
from parity.network.inputs import _input
from parity.network.inputs._input import Array, Input, Shape, check_input_size, make_input
from parity.numerics.npz import READING_ERRORS
from parity.text import one_line, printable

NAME = "array"

SUFFIXES = (".npy", ".npz")


def accepts(source: Any) -> bool:
    """Return whether `source` is an array, or names an .npy or .npz file."""
    if isinstance(source, str | Path):
        path = Path(source)
        return path.suffix.lower() in SUFFIXES and not path.is_dir()
    return isinstance(source, np.ndarray)


def load(source: Any, shape: Shape, *, batch: int | None, seed: int) -> Input:
    """Return the first `batch` items of an array, or all of them, as they are."""
    if isinstance(source, np.ndarray):
        items = _take_items(source, shape, batch, where="array")
        return make_input(NAME, items, "array in memory")
    path = Path(source)
    return make_input(NAME, _read_array(path, shape, batch), path.name)


def _read_array(path: Path, shape: Shape, batch: int | None) -> Array:
    try:
        if path.suffix.lower() == ".npz":
            with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
                return _take_items(
                    _read_member(archive, path, shape), shape, batch, where=str(path)
                )
        with files.open_regular(path) as file:
            _require_array(*_read_npy_header(file), shape, where=str(path))
        # Mapped, so that a header that claims more than the file holds cannot claim memory.
        mapped = np.lib.format.open_memmap(path, mode="r")
        return _take_items(mapped, shape, batch, where=str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except READING_ERRORS as error:
        text = one_line(str(error), longest=160) or type(error).__name__
        raise InputError(f"{path}: is no valid {path.suffix} file: {text}") from error


def _read_member(archive: zipfile.ZipFile, path: Path, shape: Shape) -> NDArray[Any]:
    members = archive.infolist()
    if len(members) != 1:
        names = ", ".join(printable(member.filename.removesuffix(".npy")) for member in members[:5])
        raise InputError(f"{path}: expected one array, found {len(members)} ({names})")
    if members[0].file_size > _input.MAX_INPUT_BYTES:
        raise InputError(f"{path}: holds {members[0].file_size >> 30} GiB: save fewer items")
    with archive.open(members[0]) as member:
        found, dtype = _read_npy_header(member)
        _require_array(found, dtype, shape, where=str(path))
        if math.prod(found) * dtype.itemsize > members[0].file_size:
            name = printable(members[0].filename)
            raise InputError(f"{path}: {name} is shorter than its header says")
    with archive.open(members[0]) as member:
        return np.asarray(np.lib.format.read_array(member, allow_pickle=False))


def _read_npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version >= (2, 0):
        read = np.lib.format.read_array_header_2_0
    found, _, dtype = read(file)
    return found, dtype


def _take_items(array: NDArray[Any], shape: Shape, batch: int | None, *, where: str) -> Array:
    """Return the first `batch` items, (N, C, H, W), of an array (N, C, H, W) or (C, H, W)."""
    _require_array(array.shape, array.dtype, shape, where=where)
    items = array[None] if array.ndim == 3 else array
    if batch is not None and batch > len(items):
        raise InputError(f"{where}: holds {len(items)} items, fewer than the batch of {batch}")
    items = items[:batch]
    check_input_size(items.shape)
    items = np.array(items, np.float32, order="C")
    if not np.isfinite(items).all():
        first = tuple(map(int, np.argwhere(~np.isfinite(items))[0]))
        raise InputError(f"{where}: NaN or Inf, first {items[first]} at {first}")
    return items


def _require_array(
    found: tuple[int, ...], dtype: np.dtype[Any], shape: Shape, *, where: str
) -> None:
    if dtype.hasobject:
        raise InputError(f"{where}: holds pickled objects, which are never loaded: save float32")
    if dtype.kind != "f" or dtype.itemsize != 4:
        raise InputError(
            f"{where}: expected float32, found {dtype}: convert it, so that every subject is given "
            "the same numbers"
        )
    if found[-3:] == shape and len(found) in (3, 4) and (len(found) == 3 or found[0] > 0):
        return
    channels, height, width = shape
    hint = ""
    if found[-3:] == (height, width, channels) and len(found) == 4:
        hint = "; channels are last: array.transpose(0, 3, 1, 2)"
    raise InputError(f"{where}: expected (N, {channels}, {height}, {width}), found {found}{hint}")
