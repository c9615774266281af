"""Keras weight files that claim more than they hold, or hold one layer twice."""

from __future__ import annotations

import shutil
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from parity.errors import UsageError, WeightError
from parity.network import architectures

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def spec():
    return architectures.get("resnet18", classes=10, image_size=(64, 64))


@pytest.fixture(scope="module")
def saved(spec, tmp_path_factory):
    """A `.weights.h5` file that Keras wrote."""
    from parity.runtimes.keras.load import build_twin

    path = tmp_path_factory.mktemp("keras") / "model.weights.h5"
    build_twin(spec).save_weights(path)
    return path


@pytest.fixture
def changed(saved, tmp_path):
    path = tmp_path / "changed.weights.h5"
    shutil.copyfile(saved, path)
    return path


def _first_layer(file):
    """The name in the file of the first layer that has variables."""
    return next(key for key, group in file["layers"].items() if len(group["vars"]))


def _refusal(path, spec):
    from parity.runtimes.keras import checkpoints

    tracemalloc.start()
    with pytest.raises(WeightError) as raised:
        checkpoints.read(path, spec.table())
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_keras_wrote_is_read(saved, spec):
    from parity.runtimes.keras import checkpoints

    assert set(checkpoints.read(saved, spec.table())) == {w.name for _, w in spec.table().weights()}


def test_two_groups_of_one_layer_are_refused(changed, spec):
    """The second one would have won without a word."""
    with h5py.File(changed, "r+") as file:
        key = _first_layer(file)
        file.copy(file["layers"][key], file["layers"], "zzz_second")
    assert "two groups are both the layer" in _refusal(changed, spec)


@pytest.mark.parametrize("size", [2**38, 10])
def test_a_dataset_that_was_never_written_is_refused(changed, spec, size):
    """HDF5 would give zeros; a tebibyte of them, or silently wrong weights."""
    with h5py.File(changed, "r+") as file:
        variables = file["layers"][_first_layer(file)]["vars"]
        shape = variables["0"].shape if size == 10 else (size,)
        del variables["0"]
        variables.create_dataset("0", shape, "f4")
    assert "of which 0 are in the file" in _refusal(changed, spec)


def test_a_dataset_that_inflates_is_refused(changed, spec):
    with h5py.File(changed, "r+") as file:
        variables = file["layers"][_first_layer(file)]["vars"]
        del variables["0"]
        zeros = np.zeros((2**24,), np.float32)
        variables.create_dataset("0", data=zeros, compression="gzip", chunks=(2**20,))
    assert "are in the file" in _refusal(changed, spec)


def test_a_dataset_of_texts_is_refused(changed, spec):
    with h5py.File(changed, "r+") as file:
        variables = file["layers"][_first_layer(file)]["vars"]
        del variables["0"]
        variables["0"] = ["a", "b"]
    assert "no plain numbers" in _refusal(changed, spec)


def _zip_of(path, target, *, compression, size=None):
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w", force_zip64=True) as out:
            out.write(path.read_bytes())
            for _ in range(size or 0):
                out.write(bytes(2**24))


def test_an_archive_that_inflates_is_refused_before_it_is_read(saved, spec, tmp_path):
    from parity.runtimes.keras import model_configs

    bomb = tmp_path / "bomb.keras"
    (tmp_path / "empty").write_bytes(b"")
    _zip_of(tmp_path / "empty", bomb, compression=zipfile.ZIP_DEFLATED, size=20)
    assert "that claim to be 335,544,320" in _refusal(bomb, spec)
    with (
        pytest.raises(UsageError, match="that claim to be 335,544,320"),
        model_configs.prepare(bomb, None),
    ):
        pass


@pytest.mark.parametrize(
    "config", [b"[" * 100_000, b"\xff", b"3", b"null", b'"text"', b"{", b"[1]"]
)
def test_a_configuration_that_is_none_is_refused(tmp_path, config):
    from parity.runtimes.keras import model_configs

    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
    with pytest.raises(UsageError) as raised, model_configs.prepare(path, None):
        pass
    assert "\n" not in str(raised.value)
