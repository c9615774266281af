"""Canonical weights: seeding, strictness, files good and bad."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from parity.errors import OutputError, WeightError
from parity.network import architectures, weights
from parity.network.table import LayerTable

Weights = dict[str, np.ndarray[Any, Any]]
RESNET18 = architectures.get("resnet18", classes=7, image_size=(32, 32))


@pytest.fixture(scope="module")
def table() -> LayerTable:
    return RESNET18.table()


@pytest.fixture(scope="module")
def seeded() -> Weights:
    """Not to be changed by a test: `dict(seeded)` first."""
    return weights.init(RESNET18, seed=3)


@pytest.fixture
def saved(tmp_path: Path, seeded: Weights) -> Path:
    path = tmp_path / "net.safetensors"
    weights.save(path, seeded)
    return path


def complaint(values: Any, table: LayerTable) -> str:
    with pytest.raises(WeightError) as caught:
        weights.check(values, table, source="net.pth")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("net.pth: ")
    return message


# The large ones hold the same kinds of layers, and drawing them would take longer than all else.
@pytest.mark.parametrize(
    "name",
    [name for name in architectures.names() if architectures.get(name).parameters < 30_000_000],
)
def test_init_fits_the_table(name: str) -> None:
    weights.check(
        weights.init(architectures.get(name), seed=0),
        architectures.get(name).table(),
        source="init",
    )


def test_init_depends_on_seed_and_name_only(seeded: Weights) -> None:
    again = weights.init(RESNET18, seed=3)
    assert weights.digest(again) == weights.digest(seeded)
    assert weights.digest(weights.init(RESNET18, seed=4)) != weights.digest(seeded)
    wider = weights.init(architectures.get("resnet18", classes=9, image_size=(64, 64)), seed=3)
    np.testing.assert_array_equal(wider["layer4.1.conv2.weight"], seeded["layer4.1.conv2.weight"])
    same_shape = seeded["layer1.0.conv1.weight"], seeded["layer1.0.conv2.weight"]
    assert not np.array_equal(*same_shape)


def test_init_keeps_the_scale_of_activations(seeded: Weights) -> None:
    kernel = seeded["layer3.0.conv2.weight"]
    assert kernel.std() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    gamma = seeded["layer3.0.bn2.weight"]
    assert gamma.min() >= 0.5
    assert gamma.max() <= 1.5
    assert gamma.std() > 0.2
    assert np.any(seeded["layer3.0.bn2.bias"])
    assert not np.any(seeded["bn1.running_mean"])
    assert np.all(seeded["bn1.running_var"] == 1)
    assert all(array.dtype == np.float32 for array in seeded.values())


def test_file_round_trip_is_bit_exact(saved: Path, seeded: Weights, table: LayerTable) -> None:
    loaded = weights.load(saved, table)
    assert list(loaded) == list(seeded)
    for name, array in seeded.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.aligned
    assert weights.digest(loaded) == weights.digest(seeded)
    other = safetensors.numpy.load_file(saved)
    assert weights.digest(other) == weights.digest(seeded)


def test_arrays_can_be_written_without_changing_the_file(saved: Path, table: LayerTable) -> None:
    before = saved.read_bytes()
    loaded = weights.load(saved, table)
    loaded["fc.bias"][:] = 5
    assert saved.read_bytes() == before


def test_saved_bytes_are_deterministic(tmp_path: Path, seeded: Weights) -> None:
    names = ("a", "b")
    for name, order in zip(names, (list(seeded), list(reversed(seeded))), strict=True):
        notes = {"z": "1", "a": "2"} if name == "a" else {"a": "2", "z": "1"}
        weights.save(tmp_path / name, {key: seeded[key] for key in order}, metadata=notes)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safetensors.safe_open(tmp_path / "a", framework="numpy") as file:
        assert file.metadata() == {"z": "1", "a": "2"}


def test_non_contiguous_and_big_endian_arrays_are_saved_by_value(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    values = {"turned": array.T, "foreign": array.astype(">f4"), "scalar": np.array(7)}
    weights.save(tmp_path / "x", values)
    loaded = safetensors.numpy.load_file(tmp_path / "x")
    for name, value in values.items():
        np.testing.assert_array_equal(loaded[name], value)
    assert weights.digest(loaded) == weights.digest(values)


@pytest.mark.parametrize("change", ["value", "name", "shape", "dtype"])
def test_digest_sees_every_change(change: str) -> None:
    base = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}
    changed: Weights = dict(base)
    if change == "value":
        changed["a"] = np.nextafter(base["a"], np.float32(9))
    elif change == "name":
        changed["c"] = changed.pop("b")
    elif change == "shape":
        changed["a"] = base["a"].reshape(2, 3)
    else:
        changed["b"] = np.zeros(1, np.float64)
    assert weights.digest(changed) != weights.digest(base)


def test_counters_are_kept_but_are_not_the_network(
    tmp_path: Path, seeded: Weights, table: LayerTable
) -> None:
    counted: Weights = dict(seeded) | {
        name: np.array(41, np.int64) for name in weights.batch_counters(table)
    }
    assert len(counted) == len(seeded) + 20
    weights.save(tmp_path / "x.safetensors", counted)
    loaded = weights.load(tmp_path / "x.safetensors", table)
    assert loaded["layer1.0.bn1.num_batches_tracked"] == 41
    assert loaded["layer1.0.bn1.num_batches_tracked"].dtype == np.int64
    assert weights.digest(loaded) == weights.digest(seeded)


def test_a_counter_of_no_batch_norm_is_unused(seeded: Weights, table: LayerTable) -> None:
    message = complaint(seeded | {"fc.num_batches_tracked": np.array(0)}, table)
    assert "1 unused: fc.num_batches_tracked ()" in message


def test_missing_and_unused_are_named(seeded: Weights, table: LayerTable) -> None:
    renamed = dict(seeded)
    renamed["layer1.0.conv9.weight"] = renamed.pop("layer1.0.conv1.weight")
    message = complaint(renamed, table)
    assert "1 missing: layer1.0.conv1.weight (64, 64, 3, 3)" in message
    assert "1 unused: layer1.0.conv9.weight (64, 64, 3, 3)" in message


def test_long_complaints_are_counted(seeded: Weights, table: LayerTable) -> None:
    few = {name: array for name, array in seeded.items() if not name.startswith("layer")}
    message = complaint(few, table)
    assert message.count("layer1") == 3
    assert "and 92 more" in message


def test_class_count_is_told(seeded: Weights, table: LayerTable) -> None:
    ten = dict(seeded)
    ten["fc.weight"], ten["fc.bias"] = np.zeros((10, 512), np.float32), np.zeros(10, np.float32)
    message = complaint(ten, table)
    assert "fc.weight expected (7, 512), found (10, 512); fc.bias expected (7,), found (10,)" in (
        message
    )
    assert message.endswith("The checkpoint has 10 classes: pass --classes 10")


def test_class_count_is_not_claimed_where_head_contradicts_itself(
    seeded: Weights, table: LayerTable
) -> None:
    odd = dict(seeded) | {"fc.weight": np.zeros((10, 512), np.float32)}
    assert "--classes" not in complaint(odd, table)


def test_channels_are_told(seeded: Weights, table: LayerTable) -> None:
    grey = dict(seeded) | {"conv1.weight": np.zeros((64, 1, 7, 7), np.float32)}
    assert complaint(grey, table).endswith("this architecture with channels=1")


def test_other_architecture_is_named(table: LayerTable) -> None:
    other = architectures.get("resnet34", classes=5, image_size=(32, 32))
    message = complaint(weights.init(other, seed=0), table)
    assert message.endswith("is of another architecture: resnet34 with classes=5")


def test_unknown_architecture_is_not_guessed(seeded: Weights, table: LayerTable) -> None:
    odd = dict(seeded) | {"layer1.0.conv1.weight": np.zeros((64, 64, 5, 5), np.float32)}
    assert "architecture" not in complaint(odd, table)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_dtype_must_be_float32(dtype: str, seeded: Weights, table: LayerTable) -> None:
    changed = {name: array.astype(dtype) for name, array in seeded.items()}
    message = complaint(changed, table)
    assert f"conv1.weight expected float32, found {dtype}" in message
    assert message.endswith("Save the checkpoint in float32")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_is_found_with_its_place(
    value: float, seeded: Weights, table: LayerTable
) -> None:
    changed = dict(seeded)
    changed["layer2.0.conv1.weight"] = seeded["layer2.0.conv1.weight"].copy()
    changed["layer2.0.conv1.weight"][5, 3, 1, 2] = value
    message = complaint(changed, table)
    assert "layer2.0.conv1.weight has 1 among 73728" in message
    assert "at (5, 3, 1, 2)" in message


def test_opposite_infinities_do_not_cancel(seeded: Weights, table: LayerTable) -> None:
    changed = dict(seeded) | {"fc.bias": np.array([np.inf, -np.inf] + 5 * [0], np.float32)}
    assert "fc.bias has 2 among 7" in complaint(changed, table)


def test_large_finite_weights_are_no_infinity(seeded: Weights, table: LayerTable) -> None:
    largest = np.finfo(np.float32).max
    weights.check(
        dict(seeded) | {"fc.bias": np.full(7, largest, np.float32)}, table, source="net.pth"
    )


def test_negative_variance_is_refused(seeded: Weights, table: LayerTable) -> None:
    changed = dict(seeded) | {"bn1.running_var": np.full(64, -1e-3, np.float32)}
    assert complaint(changed, table).endswith("batch-norm variance below 0: bn1.running_var")


def test_values_that_are_no_arrays_are_named(seeded: Weights, table: LayerTable) -> None:
    assert "epoch: expected an array, found a int" in complaint(seeded | {"epoch": 3}, table)


def test_hostile_names_stay_on_one_line(seeded: Weights, table: LayerTable) -> None:
    hostile = dict(seeded) | {"a\n\x1b[2J": np.zeros(1, np.float32)}
    message = complaint(hostile, table)
    assert "\x1b" not in message
    assert len(complaint(dict(seeded) | {"a" * 9999: np.zeros(1, np.float32)}, table)) < 300


def test_prefix_in_a_canonical_file_is_told(seeded: Weights, table: LayerTable) -> None:
    wrapped = {f"module.{name}": array for name, array in seeded.items()}
    assert "Every name begins with 'module.'" in complaint(wrapped, table)


def test_an_empty_checkpoint_is_refused(table: LayerTable) -> None:
    assert "102 missing" in complaint({}, table)


def write(path: Path, header: Any, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\x05", "truncated"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"\x80\x02}q\x00" + bytes(40), "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (struct.pack("<Q", 2**62) + b"{}", "not a readable safetensors"),
        (struct.pack("<Q", 2) + b"[]", "not a readable safetensors"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", "not a readable safetensors"),
    ],
)
def test_foreign_files(tmp_path: Path, table: LayerTable, content: bytes, reason: str) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightError, match=reason) as caught:
        weights.load(path, table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {**ENTRY, "data_offsets": [0, 80]}},
        {"a": {**ENTRY, "data_offsets": [8, 0]}},
        {"a": {**ENTRY, "data_offsets": [-8, 0]}},
        {"a": {**ENTRY, "shape": [2**40, 2**40]}},
        {"a": {**ENTRY, "dtype": "F99"}},
        {"a": ENTRY, "b": ENTRY},
        {"a": 3},
        b"[" * 100_000,
    ],
)
def test_hostile_headers(tmp_path: Path, table: LayerTable, header: Any) -> None:
    write(tmp_path / "x.safetensors", header, bytes(8))
    with pytest.raises(WeightError, match=r"x\.safetensors: is not a readable safetensors file"):
        weights.load(tmp_path / "x.safetensors", table)


def test_dtypes_that_numpy_lacks_are_named(tmp_path: Path, table: LayerTable) -> None:
    header = {"fc.bias": {"dtype": "BF16", "shape": [7], "data_offsets": [0, 14]}}
    write(tmp_path / "x.safetensors", header, bytes(14))
    with pytest.raises(WeightError, match=r"fc\.bias expected float32, found bfloat16"):
        weights.load(tmp_path / "x.safetensors", table)


def test_truncated_file(saved: Path, table: LayerTable) -> None:
    content = saved.read_bytes()
    for end in (len(content) - 1, len(content) // 2, 100, 7):
        saved.write_bytes(content[:end])
        with pytest.raises(WeightError, match="truncated"):
            weights.load(saved, table)


def test_missing_file_and_folder(tmp_path: Path, table: LayerTable) -> None:
    with pytest.raises(WeightError, match="No such file"):
        weights.load(tmp_path / "none.safetensors", table)
    with pytest.raises(WeightError, match="directory"):
        weights.load(tmp_path, table)


def test_misaligned_tensors_are_copied(tmp_path: Path, seeded: Weights, table: LayerTable) -> None:
    weights.save(tmp_path / "a.safetensors", seeded)
    content = (tmp_path / "a.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    # One blank more in the header shifts every tensor by one byte.
    shifted = struct.pack("<Q", length + 1) + content[8 : 8 + length] + b" " + content[8 + length :]
    (tmp_path / "b.safetensors").write_bytes(shifted)
    loaded = weights.load(tmp_path / "b.safetensors", table)
    assert all(array.flags.aligned for array in loaded.values())
    assert weights.digest(loaded) == weights.digest(seeded)


def test_unwritable_output_leaves_nothing(tmp_path: Path, seeded: Weights) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        weights.save(tmp_path / "none" / "x", seeded)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        weights.save(tmp_path / "folder", seeded)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_interrupted_save_leaves_the_old_file(
    saved: Path, seeded: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def interrupt(array: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        weights.save(saved, seeded)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_dtypes_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(WeightError, match="complex128"):
        weights.save(tmp_path / "x", {"a": np.zeros(2, complex)})
    assert not list(tmp_path.iterdir())


def test_round_statistics_hides_the_last_bits() -> None:
    random = np.random.default_rng(0)
    exact = random.standard_normal(100_000) * 10.0 ** random.integers(-6, 6, 100_000)
    noisy = exact * (1 + random.uniform(-1, 1, exact.size) * 2.0**-50)
    rounded = weights.round_statistics(exact)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(rounded, weights.round_statistics(noisy))
    np.testing.assert_allclose(rounded, exact, rtol=2.0**-8)
    mantissa = np.frexp(rounded.astype(np.float64))[0] * 2**weights.STATISTIC_BITS
    np.testing.assert_array_equal(mantissa, np.rint(mantissa))
    assert weights.round_statistics(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]
    with pytest.raises(WeightError, match="not finite"):
        weights.round_statistics(np.array([1.0, np.nan]))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema", "model_ema"])
def test_unwrap(wrapper: str) -> None:
    state, notes = weights.unwrap_state_dict(
        {wrapper: {"module.a": 1, "module.b": 2}, "epoch": 3}, source="f"
    )
    assert state == {"a": 1, "b": 2}
    assert notes == (
        f"f: taken from its entry '{wrapper}'",
        "f: the prefix 'module.' was taken off every name",
    )


def test_unwrap_leaves_what_is_not_wrapped() -> None:
    plain = {"model.a": 1, "module.b": 2}
    assert weights.unwrap_state_dict(plain, source="f") == (plain, ())
    assert weights.unwrap_state_dict({"model": 1}, source="f") == ({"model": 1}, ())
    assert weights.unwrap_state_dict({}, source="f") == ({}, ())


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [
        ({"state_dict": {}, "state_dict_ema": {}}, "ambiguous.*'state_dict' and 'state_dict_ema'"),
        ([1, 2], "found a list"),
        ({1: 2}, "the key 1"),
        ({"model": {("a",): 2}}, r"the key \('a',\)"),
    ],
)
def test_unwrap_guesses_nothing(checkpoint: object, reason: str) -> None:
    with pytest.raises(WeightError, match=reason):
        weights.unwrap_state_dict(checkpoint, source="f")


def test_a_weight_that_is_all_nan_is_told():
    right = {"fc.weight": np.ones((2, 3), np.float32)}
    found = {"fc.weight": np.full((2, 3), np.nan, np.float32)}
    (line,) = weights.describe_differences(right, found)
    assert line.startswith("fc.weight: 6 of 6 values differ, the most at (0, 0): expected 1, found")
    mixed = np.ones((2, 3), np.float32)
    mixed[1, 2] = np.nan
    (line,) = weights.describe_differences(right, {"fc.weight": mixed})
    assert "1 of 6 values differ, the most at (1, 2)" in line
