"""A folder of photographs, in the order of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parity.errors import InputError
from parity.network.inputs import preprocessing
from parity.network.inputs._input import Array, Input, Shape, check_input_size, make_input
from parity.network.inputs.picture import SUFFIXES
from parity.network.inputs.preprocessing import Preprocessing
from parity.network.inputs.sources.photograph import describe, read_photograph

NAME = "folder"
TAKES_PREPROCESSING = True

MAX_FILES = 256


def accepts(source: Any) -> bool:
    """Return whether `source` names a folder."""
    return isinstance(source, str | Path) and Path(source).is_dir()


def load(
    source: Any,
    shape: Shape,
    *,
    batch: int | None,
    seed: int,
    preprocess: str | Preprocessing = preprocessing.DEFAULT,
) -> Input:
    """Return the first `batch` photographs, or all of up to `MAX_FILES`, one centre crop each."""
    folder = Path(source)
    source = describe(folder.resolve().name, preprocess)
    return make_input(NAME, _read(folder, shape, batch, preprocess), source)


def _read(folder: Path, shape: Shape, batch: int | None, preprocess: str | Preprocessing) -> Array:
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from error
    if not paths:
        raise InputError(f"{folder}: holds no image ({', '.join(SUFFIXES)})")
    if batch is not None and batch > len(paths):
        raise InputError(f"{folder}: holds {len(paths)} images, fewer than the batch of {batch}")
    if batch is None and len(paths) > MAX_FILES:
        raise InputError(
            f"{folder}: holds {len(paths)} images, more than {MAX_FILES}: pass --batch to take the "
            "first ones"
        )
    paths = paths[:batch]
    check_input_size((len(paths), *shape))
    return np.concatenate([read_photograph(path, shape, 1, 0, preprocess) for path in paths])
