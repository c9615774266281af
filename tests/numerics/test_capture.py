"""Captures on disk: what comes back, what is refused, and how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray

from parity.errors import CaptureError, OutputError
from parity.numerics.capture import CaptureReader, CaptureWriter
from parity.numerics.checksum import CHUNK, allocate_aligned

DTYPES = ("float16", "float32", "float64")
ODD = [(), (0,), (1,), (2, 3, 5), (CHUNK - 1,), (CHUNK,), (2 * CHUNK + 3,)]


def write(path: Path, tensors: dict[str, NDArray[Any]], **manifest: Any) -> Path:
    with CaptureWriter(path, manifest) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
    return path


def values(shape: tuple[int, ...], dtype: str = "float32") -> NDArray[Any]:
    return np.asarray(np.random.default_rng(0).standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ODD, ids=str)
def test_round_trip(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    tensors = {"stem": values(shape, dtype), "odd": values((3,), "float16"), "z": values((2,))}
    path = write(tmp_path / "a.safetensors", tensors, subject="keras")
    with CaptureReader(path) as reader:
        assert reader.names == tuple(tensors)
        assert reader.manifest["subject"] == "keras"
        assert reader.dtype("stem") == np.dtype(dtype)
        assert reader.shape("stem") == shape
        for name, tensor in tensors.items():
            assert reader.read(name).tobytes() == tensor.tobytes()
            assert b"".join(piece.tobytes() for piece in reader.chunks(name)) == tensor.tobytes()
    assert safetensors.numpy.load_file(path)["stem"].tobytes() == tensors["stem"].tobytes()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st_numpy.arrays(st.sampled_from(DTYPES), st_numpy.array_shapes(max_dims=4, max_side=5)))
def test_any_bits_come_back(tmp_path: Path, tensor: NDArray[Any]) -> None:
    with CaptureReader(write(tmp_path / "a", {"row": tensor})) as reader:
        assert reader.read("row").tobytes() == tensor.tobytes()


def test_a_transposed_view_is_stored_in_its_own_axis_order(tmp_path: Path) -> None:
    nhwc = values((2, 5, 7, 3))
    with CaptureReader(write(tmp_path / "a", {"row": nhwc.transpose(0, 3, 1, 2)})) as reader:
        np.testing.assert_array_equal(reader.read("row"), nhwc.transpose(0, 3, 1, 2))


def test_the_manifest_may_change_until_the_end(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "a", {"seconds": None}) as writer:
        writer.manifest["seconds"] = 1.5
    assert CaptureReader(tmp_path / "a").manifest["seconds"] == 1.5


def test_a_header_longer_than_reserved_moves_the_tensors(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"row": values((9,))}, flags={"long": "x" * 2**19})
    with CaptureReader(path) as reader:
        np.testing.assert_array_equal(reader.read("row"), values((9,)))
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with CaptureWriter(tmp_path / "a", {}) as writer:
            writer.add("row", values((4,)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_unwritable(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        CaptureWriter(tmp_path / "absent" / "a", {})


@pytest.mark.parametrize("dtype", ["int32", "complex64", "bool", "longdouble"])
def test_other_dtypes_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(CaptureError, match="row: expected float16, float32 or float64"):
        write(tmp_path / "a", {"row": np.ones(3, dtype)})


def test_a_row_given_twice_is_refused(tmp_path: Path) -> None:
    with CaptureWriter(tmp_path / "a", {}) as writer:
        writer.add("row", values((3,)))
        with pytest.raises(CaptureError, match="twice"):
            writer.add("row", values((3,)))


def test_an_absent_row_is_named(tmp_path: Path) -> None:
    reader = CaptureReader(write(tmp_path / "a", {}))
    assert "stem" not in reader
    with pytest.raises(CaptureError, match="has no row 'stem'"):
        reader.read("stem")


@pytest.mark.parametrize("kept", [0, 4, 8, 300, 0.5, 0.999])
def test_truncated(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "a", {"row": values((2**17,))})
    data = path.read_bytes()
    path.write_bytes(data[: int(kept if kept > 1 else kept * len(data))])
    with pytest.raises(CaptureError, match="truncated"):
        CaptureReader(path)


def test_truncated_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"row": values((4 * CHUNK,))})
    reader = CaptureReader(path)
    pieces = reader.chunks("row")
    next(pieces)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)
    with pytest.raises(CaptureError, match="too early"):
        list(pieces)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0.0, 0.5, 0.9999])
def test_one_flipped_bit_is_found(tmp_path: Path, place: float, dtype: str) -> None:
    tensor = values((CHUNK + 3,), dtype)
    path = write(tmp_path / "a", {"row": tensor})
    data = bytearray(path.read_bytes())
    data[len(data) - tensor.nbytes + int(place * tensor.nbytes)] ^= 0x80
    path.write_bytes(data)
    for consume in (lambda r: r.read("row"), lambda r: list(r.chunks("row"))):
        with pytest.raises(CaptureError, match="changed after the capture"):
            consume(CaptureReader(path))


def test_two_values_exchanged_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"row": values((CHUNK,))})
    data = bytearray(path.read_bytes())
    data[-8:], data[-16:-8] = data[-16:-8], data[-8:]
    path.write_bytes(data)
    with pytest.raises(CaptureError, match="changed"):
        CaptureReader(path).read("row")


def header(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return dict(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))


def with_header(path: Path, changed: Any) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    path.write_bytes(data[:8] + json.dumps(changed).encode().ljust(size) + data[8 + size :])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "I64"),
        ("shape", [-3]),
        ("shape", [4]),
        ("shape", "x"),
        ("data_offsets", [0, 4]),
        ("data_offsets", [4, 16]),
        ("data_offsets", [-4, 8]),
        ("data_offsets", None),
    ],
)
def test_a_malformed_entry_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    path = write(tmp_path / "a", {"row": values((3,))})
    changed = header(path)
    changed["row"][field] = value
    with_header(path, changed)
    with pytest.raises(CaptureError, match="is not a parity capture"):
        CaptureReader(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    safetensors.numpy.save_file({"row": values((3,))}, path)
    with pytest.raises(CaptureError, match="no manifest"):
        CaptureReader(path)
    path.write_bytes(b"\xff" * 4096)
    with pytest.raises(CaptureError, match="is not a parity capture"):
        CaptureReader(path)
    path.write_bytes((8).to_bytes(8, "little") + b"notjson!")
    with pytest.raises(CaptureError, match="not JSON"):
        CaptureReader(path)
    with pytest.raises(CaptureError, match="cannot be read"):
        CaptureReader(tmp_path / "absent")
    with pytest.raises(CaptureError, match="cannot be read"):
        CaptureReader(tmp_path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {})
    changed = header(path)
    manifest = json.loads(changed["__metadata__"]["parity"]) | {"schema": "parity.capture/1"}
    changed["__metadata__"]["parity"] = json.dumps(manifest)
    with_header(path, changed)
    with pytest.raises(CaptureError, match=r"expected schema parity.capture/3, found .*/1"):
        CaptureReader(path)


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_aligned(count: int) -> None:
    array = allocate_aligned(count, np.float64)
    assert array.shape == (count,)
    assert array.ctypes.data % 64 == 0


_PEAK = """
import resource, sys
import numpy as np
from parity.numerics.capture import CaptureReader
from parity.numerics.verdict import compare_captures
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from parity.numerics.floor import Floor
from parity.numerics.points import ComparisonPoint
a, b = CaptureReader(sys.argv[1]), CaptureReader(sys.argv[2])
point = ComparisonPoint("row", "row", "row", ())
stages = compare_captures(reference=a, floors={"row": Floor(1e-7, 1e-6, 5, 1.0)},
                          subjects={"b": b, "c": b}, points=[point])
assert stages[0].subjects["b"].status == "exact"
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def test_comparing_takes_a_few_megabytes(tmp_path: Path) -> None:
    tensor = np.zeros((16, 256, 56, 56), np.float32)
    expected = write(tmp_path / "a", {"row": tensor.astype(np.float64)})
    actual = write(tmp_path / "b", {"row": tensor})
    command = [sys.executable, "-c", _PEAK, str(expected), str(actual)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 20  # MB; one of the tensors has 103


@pytest.mark.parametrize("edit", ["shape", "names", "dtype"])
def test_the_digest_covers_shapes_and_names(tmp_path: Path, edit: str) -> None:
    """Two tensors of one size whose names are exchanged are an edit, not a divergence."""
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros((2, 3), np.float32)}
    path = write(tmp_path / "a", arrays)
    changed = header(path)
    if edit == "shape":
        changed["a"]["shape"] = [3, 2]
    elif edit == "names":
        changed["a"], changed["b"] = changed["b"], changed["a"]
    else:
        changed["a"] |= {"dtype": "F16", "shape": [2, 6]}
    with_header(path, changed)
    with pytest.raises(CaptureError, match="its header was changed after the capture"):
        CaptureReader(path)


@pytest.mark.parametrize("value", [1e400, 2.5, "3", None, [1], 10**400])
def test_an_entry_with_another_type_is_malformed(tmp_path: Path, value: object) -> None:
    path = write(tmp_path / "a", {"a": np.ones((2, 3), np.float32)})
    changed = header(path)
    changed["a"]["shape"] = [value, 3]
    with_header(path, changed)
    with pytest.raises(CaptureError):
        CaptureReader(path)
