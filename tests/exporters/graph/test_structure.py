"""Structures written to the disk and read back."""

from __future__ import annotations

import pytest

from exporters.errors import ExportError
from exporters.graph import Structure


def test_a_structure_survives_the_disk(structure, tmp_path):
    path = tmp_path / "a.structure"
    structure.save(path)
    first = path.read_bytes()
    structure.save(path)
    loaded = Structure.load(path)
    assert path.read_bytes() == first
    assert loaded.weights == structure.weights == {
        "kernel": (2, 3), "beta": (2,), "mean": (2,), "variance": (2,)
    }  # fmt: skip
    assert (loaded.inputs, loaded.outputs, loaded.taps, loaded.unused) == (
        structure.inputs,
        structure.outputs,
        structure.taps,
        structure.unused,
    )
    assert not loaded.model.metadata_props


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_what_is_no_structure_is_refused(structure, tmp_path, content):
    path = tmp_path / "a.structure"
    structure.save(path)
    path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(ExportError, match=r"not a saved structure"):
        Structure.load(path)
    with pytest.raises(ExportError, match="cannot be read"):
        Structure.load(tmp_path / "missing")
