"""Named arrays as `.npz` files, which parent and children exchange: inputs and weights."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import InputError

Array = NDArray[Any]


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
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {error}") from error
