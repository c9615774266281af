"""Saved runs in Polygraphy's JSON: a round trip, and files that are damaged or hostile."""

from __future__ import annotations

import base64
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.errors import InputError
from parity.numerics import run_results
from parity.numerics.run_results import read_run_results, write_run_results

VALUES = np.array([[1.5, np.nan, -np.inf]], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    write_run_results(path, {"torch": {"y": VALUES}})
    return path


@pytest.mark.parametrize(
    "array",
    [
        VALUES,
        np.float16([[1, 2], [3, 4]]).T,
        np.arange(6, dtype=">f8").reshape(2, 3),
        np.array([True, False]),
        np.array(7, np.int64),
        np.zeros((0, 3), np.float32),
    ],
    ids=lambda array: f"{array.dtype.str}{list(array.shape)}",
)
def test_arrays_come_back(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_run_results(path, {"a": {"x": array, "y/z:0": array}, "b": {"x": array}})
    runs = read_run_results(path)
    assert {name: list(outputs) for name, outputs in runs.items()} == {
        "a": ["x", "y/z:0"],
        "b": ["x"],
    }
    assert runs["b"]["x"].dtype == array.dtype
    np.testing.assert_array_equal(runs["b"]["x"], array)


def test_polygraphy_reads_what_is_written_and_writes_what_is_read(
    path: Path, tmp_path: Path
) -> None:
    comparator = pytest.importorskip("polygraphy.comparator")
    loaded = comparator.RunResults.load(str(path))
    assert list(loaded.keys()) == ["torch"]
    np.testing.assert_array_equal(loaded["torch"][0]["y"], VALUES)
    loaded.add([{"z": VALUES, "label": np.arange(3)}], runtime=0.5, runner_name="trt")
    other = tmp_path / "other.json"
    loaded.save(str(other))
    runs = read_run_results(other)
    np.testing.assert_array_equal(runs["torch"]["y"], VALUES)
    np.testing.assert_array_equal(runs["trt"]["label"], np.arange(3))


def test_objects_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'a': 'x': Object arrays cannot be saved"):
        write_run_results(tmp_path / "run.json", {"a": {"x": np.array([None])}})


def npy(shape: object, descr: str = "<f4", data: bytes = b"") -> str:
    """Return the base64 text of a `.npy` file with a header that states anything."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
    return base64.b64encode(content).decode()


class Pickle:
    """An object whose unpickling would be seen."""

    loaded = False

    def __reduce__(self) -> tuple[Callable[..., None], tuple[type, str, bool]]:
        return setattr, (Pickle, "loaded", True)


def pickled() -> str:
    content = io.BytesIO()
    np.save(content, np.array([Pickle()], dtype=object), allow_pickle=True)
    return base64.b64encode(content.getvalue()).decode()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ("no base64!", "is not base64"),
        ("é", "is not base64"),
        (7, "expected a base64 text, found 7"),
        (None, "expected a base64 text, found None"),
        ("", "is no .npy array"),
        (base64.b64encode(pickle.dumps(Pickle())).decode(), "is no .npy array"),
        (pickled(), "pickled objects, which are never loaded"),
        (npy((10**15,)), "its header states 4000000000000000 bytes, and 0 follow"),
        (npy((2,), data=b"1234"), "its header states 8 bytes, and 4 follow"),
        (npy((1,), data=b"12345678"), "its header states 4 bytes, and 8 follow"),
        (npy((-1,)), "is no .npy array"),
        (npy((10**15,), "|V0"), "expected numbers, found"),
        (npy((1,), "<U1", b"1234"), "expected numbers, found"),
        (npy("open('x')"), "is no .npy array"),
        (npy((1,), "|O", b"12345678"), "pickled objects"),
    ],
)
def test_an_array_that_is_not_one_is_refused(path: Path, array: object, message: str) -> None:
    results = json.loads(path.read_text())
    results["lst"][0][1][0]["outputs"]["y"]["values"]["array"] = array
    path.write_text(json.dumps(results))
    with pytest.raises(InputError, match=message) as error:
        read_run_results(path)
    assert str(error.value).startswith(f"{path}: 'torch': 'y': ")
    assert "\n" not in str(error.value)
    assert not Pickle.loaded


LAZY = {"values": {"array": "", "polygraphy_class": "ndarray"}, "polygraphy_class": "LazyArray"}
TENSOR = {"tensor": "", "polygraphy_class": "Tensor"}


def iteration(outputs: object) -> dict[str, object]:
    return {"outputs": outputs, "polygraphy_class": "IterationResult"}


def results(*entries: object) -> str:
    return json.dumps({"lst": entries, "polygraphy_class": "RunResults"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\x00", "is not JSON"),
        ("9" * 10_000, "is not JSON"),
        ("[]", "expected Polygraphy's RunResults"),
        ("NaN", "expected Polygraphy's RunResults, found nan"),
        ('{"polygraphy_class": "AccuracyResult"}', "RunResults, found 'AccuracyResult'"),
        ('{"polygraphy_class": ["RunResults"]}', "expected Polygraphy's RunResults"),
        ('{"polygraphy_class": "RunResults"}', "lst: expected a list, found None"),
        (results(), "holds no runner"),
        (results(["a"]), "expected pairs of a runner and its iterations"),
        (results([1, []]), "expected pairs of a runner and its iterations"),
        (results(["a", []]), "'a': expected 1 iteration, found 0"),
        (results(["a", [1, 2]]), "'a': expected 1 iteration, found 2"),
        (results(["a", {}]), "'a': expected 1 iteration, found {}"),
        (results(["a", [1]]), "'a': expected Polygraphy's IterationResult, found 1"),
        (results(["a", [iteration({})]]), "'a': outputs: expected an object with arrays"),
        (results(["a", [iteration([1])]]), "'a': outputs: expected an object with arrays"),
        (results(["a", [iteration({"y": 1})]]), "'y': expected Polygraphy's ndarray, found 1"),
        (results(["a", [iteration({"y": TENSOR})]]), "'y': holds a PyTorch tensor"),
        (results(["a\n", [iteration({"y": LAZY})]]), r"'a\\n': 'y': is no .npy array"),
    ],
)
def test_another_form_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_run_results(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_runner_that_is_listed_twice_is_refused(path: Path) -> None:
    content = json.loads(path.read_text())
    content["lst"] *= 2
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="'torch': is listed twice"):
        read_run_results(path)


def test_a_file_that_cannot_be_read_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_run_results(other)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="is not JSON"):
        read_run_results(path)
    monkeypatch.setattr(run_results, "LONGEST", 2)
    with pytest.raises(InputError, match="cannot be read: is larger than"):
        read_run_results(path)
