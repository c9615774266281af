"""What a command writes, checked before any work is done: writable, and no file that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from parity import files
from parity.errors import OutputError
from parity.network.inputs import picture
from parity.training.data import idx
from parity.training.description import FILE_NAME


def require_outputs(
    outputs: Iterable[str | Path | None],
    inputs: Iterable[object] = (),
    *,
    data: str | Path | None = None,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
) -> None:
    """Raise `OutputError` if an output cannot be written or would replace a file that is read.

    Read are `inputs` (see `files.require_other_files`), the images of the folder `data`, and the
    checkpoint `weights` with its description. `folder` is one that the command makes, so it may be
    absent. An output that is None is left out.
    """
    paths = [Path(path) for path in outputs if path is not None]
    if folder is not None:
        files.require_writable_folder(folder)
    for path in paths:
        if folder is None or not _is_made(path.parent, Path(folder)):
            files.require_writable(path)
        if data is not None and _is_data(path, Path(data)):
            raise OutputError(f"{path}: would replace a file of the data; give another name")
    read = [str(each) for each in inputs if each is not None]
    if weights is not None:
        checkpoint = Path(weights)
        read.append(str(checkpoint))
        read += [str(each / FILE_NAME) for each in (checkpoint.parent, checkpoint.parent.parent)]
    files.require_other_files(paths, read)


def _is_made(parent: Path, folder: Path) -> bool:
    """Return whether `parent` does not exist, but does once `folder` is made."""
    made = Path(os.path.abspath(folder))
    absent = Path(os.path.abspath(parent))
    return not parent.exists() and absent in (made, *made.parents)


def _is_data(path: Path, folder: Path) -> bool:
    """Return whether a path is an image or an IDX file that exists in a folder of data."""
    if not path.is_file() or not folder.is_dir():
        return False
    is_read = path.suffix.lower() in picture.SUFFIXES or idx.FILE_MARK in path.name
    return is_read and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
