"""PyTorch checkpoint files that are none, or hold more than tensors."""

from __future__ import annotations

import pickle

import pytest
import torch

from parity.errors import WeightError
from parity.runtimes.torch import checkpoints

pytestmark = pytest.mark.framework

CONTENTS = {
    "text": b"hello, this is a text file\n",
    "json": b'{"a": 1}',
    "yaml": b"a: 1\n",
    "page": b"<!DOCTYPE html>\n<html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "words": b"Keras\n",
    "picture": b"\x89PNG\r\n\x1a\n0123",
    "empty": b"",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_no_checkpoint_is_called_that(tmp_path, name):
    path = tmp_path / "model.pth"
    path.write_bytes(CONTENTS[name])
    with pytest.raises(WeightError) as raised:
        checkpoints.read(path)
    message = str(raised.value)
    found = f"begins with {CONTENTS[name][:32]!r}" if CONTENTS[name] else "an empty file"
    assert message.startswith(f"{path}: no PyTorch checkpoint: ")
    assert found in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"\x80\x02e.", b"\x80abc", b"PK\x03\x04abc"])
def test_a_damaged_checkpoint_cannot_be_read(tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(WeightError, match="cannot be read as a PyTorch checkpoint: "):
        checkpoints.read(path)


def test_a_checkpoint_with_a_function_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"weight": print}, protocol=2))
    with pytest.raises(WeightError, match="refused: it holds more than tensors"):
        checkpoints.read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_of_either_format_is_read(tmp_path, zipped):
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    tensors, _ = checkpoints.read(path)
    assert tensors["weight"].tolist() == [1.0, 1.0]
