"""The inputs of models: foreign files, and options that the models disagree with."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from parity.comparison.graphs.inputs import DeclaredInput, InputArrays, choose_inputs
from parity.comparison.graphs.request import GraphRequest
from parity.errors import ParityError, UsageError

DECLARED = DeclaredInput("x", (2, 3), "float32", "declared")


def read(path: Path) -> np.ndarray:
    request = GraphRequest(references=("net.py:build",), inputs={"x": str(path)})
    return choose_inputs(request, [DECLARED], None, seed=0).arrays["x"]


def write_header(path: Path, shape: str, data: bytes) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(118 - 1) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)


def test_a_file_is_read_bit_for_bit(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    np.save(tmp_path / "x.npy", array)
    assert read(tmp_path / "x.npy").tobytes() == array.tobytes()


def test_arrays_in_column_order_are_read(tmp_path):
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.save(tmp_path / "x.npy", array)
    assert np.array_equal(read(tmp_path / "x.npy"), array)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("claims.npy", "cannot be read as an .npy file"),
        ("cut.npy", "cannot be read as an .npy file"),
        ("header.npy", "cannot be read as an .npy file"),
        ("objects.npy", "it holds objects"),
        ("archive.npz", "expected one array, an .npy file, found another format"),
        ("empty.npy", "expected one array, an .npy file, found another format"),
        ("pipe.npy", "expected a file, found a folder or a special file"),
        ("folder.npy", "expected a file, found a folder or a special file"),
        ("nowhere.npy", "no such file or directory"),
    ],
)
def test_a_file_that_cannot_be_an_input(tmp_path, name, message):
    """A header that claims 4 TiB claims no memory, and a pipe is not waited for."""
    write_header(tmp_path / "claims.npy", "(1000000000000,)", b"")
    write_header(tmp_path / "cut.npy", "(2, 3)", b"\0" * 20)
    (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff{")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", x=np.zeros((2, 3), np.float32))
    (tmp_path / "empty.npy").touch()
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ParityError) as raised:
        read(tmp_path / name)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def choose(shape, **fields):
    request = GraphRequest(("a.py:b",), input="random", **fields)
    return choose_inputs(request, [DeclaredInput("x", shape, "float32", "test")], None, seed=0)


def test_the_image_size_fills_free_axes():
    assert choose((None, 3, None, None), image_size=(32, 48)).arrays["x"].shape == (1, 3, 32, 48)
    assert choose((None, None, None, 3), image_size=(32, 48)).arrays["x"].shape == (1, 32, 48, 3)


def test_the_image_size_is_not_ignored_where_the_model_states_its_own():
    assert choose((None, 3, 64, 64), image_size=(64, 64)).arrays["x"].shape == (1, 3, 64, 64)
    with pytest.raises(UsageError, match="--image-size: the model's input is 64x64 pixels"):
        choose((None, 3, 64, 64), image_size=(32, 32))


@pytest.mark.parametrize("size", [(32, 32), (48, 32)])
def test_the_image_size_is_not_ignored_beside_an_example(size):
    example = {"x": np.random.default_rng(0).standard_normal((1, 3, 48, 32)).astype(np.float32)}
    declared = [DeclaredInput("x", None, "float32", "example")]
    request = GraphRequest(("a.py:b",), image_size=size)
    if size == (48, 32):
        assert choose_inputs(request, declared, example, seed=0).arrays["x"] is example["x"]
        return
    with pytest.raises(UsageError, match="--image-size: the model's input is 48x32 pixels"):
        choose_inputs(request, declared, example, seed=0)


@pytest.mark.parametrize(
    ("first", "second", "is_photograph"),
    [
        (None, "mask.npy", True),
        (None, None, True),
        ("x.npy", None, False),
        ("x.npy", "mask.npy", False),
    ],
)
def test_a_photograph_beside_an_array(tmp_path, first, second, is_photograph):
    """The preprocessing is that of a photograph, whatever the other inputs are."""
    declared = [
        DeclaredInput("x", (1, 3, 8, 8), "float32", "test"),
        DeclaredInput("y", (1, 4), "float32", "test"),
    ]
    given = {name: file for name, file in (("x", first), ("y", second)) if file}
    for spec in declared:
        np.save(tmp_path / given.get(spec.name, "unused.npy"), np.ones(spec.shape, np.float32))
    request = GraphRequest(("a", "b"), inputs={n: tmp_path / file for n, file in given.items()})
    assert choose_inputs(request, declared, None, seed=0).has_photograph == is_photograph


@pytest.mark.parametrize("source", ["random", np.ones((1, 3, 8, 8), np.float32)])
def test_noise_and_arrays_are_no_photographs(source):
    declared = [DeclaredInput("x", (1, 3, 8, 8), "float32", "test")]
    request = GraphRequest(("a", "b"), input=source)
    assert not choose_inputs(request, declared, None, seed=0).has_photograph


@pytest.mark.parametrize(
    ("example", "kept"),
    [
        ({"x": np.zeros((2, 3), np.float32)}, False),
        ({"x": np.full((2, 3), 0.5, np.float32)}, False),
        ({"x": np.arange(6, dtype=np.float32).reshape(2, 3)}, True),
        # A mask of ones beside an input that varies is meant.
        ({"x": np.ones((2, 3), np.float32), "y": np.arange(4.0)}, True),
        ({"x": np.ones((2, 3), np.float32), "y": np.zeros(4, np.int64)}, True),
        ({"x": np.ones((2, 3), np.float32), "y": np.arange(4)}, True),
        ({"x": np.zeros((2, 3), np.float32), "y": np.ones((2, 3), np.float32)}, False),
        ({"x": np.ones((2, 3), np.float32), "y": np.zeros((2, 3), np.float32)}, True),
        ({"x": np.zeros((2, 3), np.int64)}, True),
        ({"x": np.ones((1, 1), np.float32)}, True),
    ],
)
def test_an_example_of_one_number_gives_the_shape_alone(example, kept):
    declared = [
        DeclaredInput(name, each.shape, str(each.dtype), "example")
        for name, each in example.items()
    ]
    chosen = choose_inputs(GraphRequest(("a", "b")), declared, example, seed=0)
    assert all(chosen.arrays[name].shape == each.shape for name, each in example.items())
    assert np.array_equal(chosen.arrays["x"], example["x"]) == kept
    assert chosen.arrays["x"].dtype == example["x"].dtype


@pytest.mark.parametrize(
    ("array", "repeats"),
    [
        (np.zeros((1, 3, 32, 32), np.float32), True),
        (np.indices((64, 64)).sum(0).astype(np.float32) % 2, True),
        (np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32), False),
        # A picture in 256 steps, of which half is one colour.
        (np.repeat(np.arange(256, dtype=np.float32), 64) / 255, False),
        (np.zeros(8, np.float32), False),
        (np.zeros((64, 64), np.int64), False),
    ],
)
def test_inputs_that_repeat_a_few_values(array, repeats):
    assert InputArrays({"x": array}, "test").repeats_values == repeats


def test_a_mask_beside_data_does_not_make_an_input_repeat():
    data = np.random.default_rng(0).standard_normal((64, 1024, 64)).astype(np.float32)
    data[..., 0] = 1.0
    mask = np.ones((64, 1024), np.float32)
    assert not InputArrays({"x": data, "mask": mask}, "test").repeats_values
    assert InputArrays({"x": 0.0 * data, "mask": mask}, "test").repeats_values
