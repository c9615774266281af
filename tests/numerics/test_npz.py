"""Arrays in `.npz` files have their names, whatever characters these have."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from parity.errors import InputError
from parity.numerics.npz import load_npz, save_npz

NAMES = [
    "kernel", "block/kernel", "a|b", "a/|b", "|", "~", "~1", "~0|/~1", "file", "x.npy", "ä",
]  # fmt: skip


def test_names_round_trip(tmp_path: Path) -> None:
    arrays = {name: np.full(index, index, np.float32) for index, name in enumerate(NAMES)}
    save_npz(tmp_path / "arrays.npz", arrays)
    found = load_npz(tmp_path / "arrays.npz")
    assert list(found) == NAMES
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_members_are_no_paths(tmp_path: Path) -> None:
    save_npz(tmp_path / "arrays.npz", {"../../a/b": np.zeros(1)})
    with zipfile.ZipFile(tmp_path / "arrays.npz") as archive:
        assert archive.namelist() == ["..|..|a|b.npy"]


def test_a_file_that_is_no_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "arrays.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"arrays\.npz: "):
        load_npz(tmp_path / "arrays.npz")
