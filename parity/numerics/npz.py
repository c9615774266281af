"""Named arrays as `.npz` files, which parent and children exchange: inputs and weights."""

from __future__ import annotations

import lzma
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import InputError
from parity.text import one_line

Array = NDArray[Any]

READING_ERRORS = (
    ValueError, TypeError, SyntaxError, EOFError, LookupError, ArithmeticError, RuntimeError,
    AttributeError, MemoryError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
"""The errors, besides OSError, that NumPy's and zipfile's readers raise for damaged files."""

# The members of a zip archive are paths, and Keras's names have slashes: these become "|", which is
# escaped itself, as JSON Pointer does (RFC 6901).
_ESCAPES = {"~": "~0", "|": "~1", "/": "|"}
_ESCAPED = str.maketrans(_ESCAPES)
_UNESCAPED = {escaped: character for character, escaped in _ESCAPES.items()}


def save_npz(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write an `.npz` file that `load_npz` reads; names may have any characters but NUL.

    `numpy.savez` takes the names as arguments, so that an array cannot be called `file`.
    """
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name.translate(_ESCAPED)}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def load_npz(path: str | Path) -> dict[str, Array]:
    """Return the arrays of a file of `save_npz` by name; raises `InputError`."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {_unescape(name): arrays[name] for name in arrays.files}
    except (OSError, *READING_ERRORS) as error:
        reason = one_line(str(error), longest=160) or type(error).__name__
        raise InputError(f"{path}: {reason}") from error


def _unescape(member_name: str) -> str:
    return re.sub(r"~[01]|\|", lambda match: _UNESCAPED[match[0]], member_name)
