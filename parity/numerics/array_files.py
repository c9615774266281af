"""Named arrays as `.npz` files, which parent and children exchange: inputs and weights."""

from __future__ import annotations

import lzma
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

# Whatever damaged files make NumPy's and zipfile's readers raise.
READING_ERRORS = (
    ValueError, TypeError, SyntaxError, EOFError, LookupError, ArithmeticError, RuntimeError,
    AttributeError, MemoryError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


def save_arrays(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write an `.npz` file that `load_arrays` reads.

    `numpy.savez` takes the names as arguments, so that an array cannot be called `file`.
    """
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            # The members of a zip archive are paths; Keras's names have slashes.
            member_name = name.replace("/", "|")
            with archive.open(f"{member_name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: str | Path) -> dict[str, Array]:
    """Return the arrays of an `.npz` file by name; raises `InputError`."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name.replace("|", "/"): arrays[name] for name in arrays.files}
    except (OSError, *READING_ERRORS) as error:
        reason = one_line(str(error), longest=160) or type(error).__name__
        raise InputError(f"{path}: {reason}") from error
