"""Sources of data sets: what they hold, and what is refused in one line."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from PIL import Image

from parity.errors import InputError, OutputError
from parity.training.data.dataset import Dataset
from parity.training.data.sources import open_dataset, write_digits


def draw_image(path, colour=(200, 10, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour).save(path)


def count_by_class(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Return the number of images of each class in each split."""
    counts = {
        split: np.bincount(np.asarray(images.labels), minlength=len(dataset.classes))
        for split, images in dataset.splits.items()
    }
    return {
        name: {split: int(found[index]) for split, found in counts.items()}
        for index, name in enumerate(dataset.classes)
    }


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                draw_image(tmp_path / split / name / f"{number}.png", (number * 9, label * 99, 1))
    return tmp_path


def test_a_folder_has_its_splits_and_classes(folder):
    data = open_dataset(folder)
    assert data.classes == ("cat", "dog")
    assert data.channels == 3
    assert count_by_class(data) == {
        name: {"training": 6, "validation": 2, "test": 3} for name in ("cat", "dog")
    }
    pixels = data.training.read(0, (5, 6), 3)
    assert pixels.shape == (5, 6, 3)
    assert data.training.describe(0) == str(folder / "train" / "cat" / "0.png")


def test_one_folder_is_split_by_the_seed(folder):
    data = open_dataset(folder / "train", validation_share=0.33)
    assert count_by_class(data)["dog"] == {"training": 4, "validation": 2}
    again = open_dataset(folder / "train", validation_share=0.33)
    assert again.sha256 == data.sha256
    seeds = {open_dataset(folder / "train", seed=seed).sha256 for seed in range(6)}
    assert len(seeds) > 1
    assert not set(data.training.paths) & set(data.validation.paths)


def test_the_hash_sees_a_pixel_a_name_and_a_class(folder):
    hashes = {open_dataset(folder).sha256}
    draw_image(folder / "train" / "cat" / "0.png", (1, 2, 3))
    hashes.add(open_dataset(folder).sha256)
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "9.png")
    hashes.add(open_dataset(folder).sha256)
    (folder / "train" / "cat" / "9.png").rename(folder / "train" / "dog" / "9.png")
    hashes.add(open_dataset(folder).sha256)
    assert len(hashes) == 4


def test_the_digits_are_those_of_scikit_learn():
    data = open_dataset("digits")
    assert len(data.training.labels) + len(data.validation.labels) == 1797
    assert data.channels == 1
    counts = count_by_class(data)
    assert list(counts) == [str(digit) for digit in range(10)]
    assert all(33 <= count["validation"] <= 38 for count in counts.values())


def test_the_digits_as_a_folder_are_the_same_images(tmp_path):
    assert write_digits(tmp_path / "digits") == 1797
    data, files = open_dataset("digits"), open_dataset(tmp_path / "digits")
    assert files.classes == data.classes
    position = data.validation.positions[0]
    label = data.classes[data.validation.labels[0]]
    index = files.validation.paths.index(f"{label}/{position:04d}.png")
    np.testing.assert_array_equal(
        data.validation.read(0, (8, 8), 1), files.validation.read(index, (8, 8), 1)
    )
    with pytest.raises(OutputError, match="exists and is not empty"):
        write_digits(tmp_path / "digits")


def idx_bytes(array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28))
    labels = np.arange(60) % 10
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(pixels[:20])))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels[:20])))
    return folder


def test_idx_files_are_read(idx_folder):
    data = open_dataset(idx_folder)
    assert data.classes[9] == "Ankle boot"
    assert (len(data.training.labels), len(data.validation.labels)) == (50, 10)
    assert len(data.test.labels) == 20
    assert data.test.read(3, (28, 28), 1).shape == (28, 28, 1)


def test_the_test_images_validate_if_that_is_asked_for(idx_folder, tmp_path):
    data = open_dataset(idx_folder, validate_on_test=True)
    assert (len(data.training.labels), len(data.validation.labels)) == (60, 20)
    assert data.test is None
    whole = open_dataset(idx_folder)
    np.testing.assert_array_equal(
        data.validation.read(5, (28, 28), 1), whole.test.read(5, (28, 28), 1)
    )
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (idx_folder / name).unlink()
    with pytest.raises(InputError, match=r"--validate-on-test: .* has no test images"):
        open_dataset(idx_folder, validate_on_test=True)
    folder = tmp_path / "folder"
    for split, count in (("train", 4), ("test", 1)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (4, 4)).save(folder / split / name / f"{index}.png")
    with pytest.raises(InputError, match="--validate-on-test needs val/, too; or rename test/"):
        open_dataset(folder, validate_on_test=True)
    (folder / "test").rename(folder / "val")
    with pytest.raises(InputError, match="has no test images"):
        open_dataset(folder, validate_on_test=True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-labels-idx1-ubyte", idx_bytes(np.zeros(59)), "expected 60 labels.*found 59"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0", "is not an IDX file"),
        ("train-images-idx3-ubyte", idx_bytes(np.zeros((2, 3, 3)))[:-1], "expected 18 values"),
        ("train-images-idx3-ubyte", idx_bytes(np.zeros((0, 3, 3))), "expected 0 labels|no image"),
        ("t10k-images-idx3-ubyte.gz", b"not gzip", "cannot be read"),
        ("t10k-labels-idx1-ubyte.gz", gzip.compress(idx_bytes(np.full(20, 11))), "class 11"),
    ],
)
def test_damaged_idx_files_are_refused(idx_folder, file, content, message):
    (idx_folder / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_dataset(idx_folder)


def test_bad_folders_are_refused(folder, tmp_path):
    def message(source, **options):
        with pytest.raises(InputError) as error:
            open_dataset(source, **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no such folder" in message(folder / "absent")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "expected a sub-folder for each class, found no folder" in message(empty)
    (empty / "one").mkdir()
    draw_image(empty / "one" / "a.png")
    assert "expected at least 2 classes, found only 'one'" in message(empty)
    (empty / "two").mkdir()
    assert "class 'one' has 1 image that can be read; every class needs 2" in message(empty)
    draw_image(empty / "one" / "b.png")
    assert "class 'two' has no images that can be read" in message(empty)
    (folder / "val" / "fox").mkdir()
    assert "class 'fox' is not in train/" in message(folder)
    (folder / "val" / "fox").rmdir()
    assert "between 0 and 1, found 1.5" in message(folder, validation_share=1.5)


def test_damaged_images_are_counted_and_named_and_left_out_if_asked(folder):
    whole = (folder / "train" / "cat" / "1.png").read_bytes()
    (folder / "train" / "cat" / "1.png").write_bytes(whole[:45])
    (folder / "test" / "dog" / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="2 of the image files cannot be read") as error:
        open_dataset(folder)
    named = r"cat/1\.png: the image is damaged or truncated.*\(and 1 more\); --skip-unreadable"
    assert re.search(named, str(error.value))
    data = open_dataset(folder, skip_unreadable=True)
    assert len(data.unreadable) == 2
    assert count_by_class(data) == {
        "cat": {"training": 5, "validation": 2, "test": 3},
        "dog": {"training": 6, "validation": 2, "test": 2},
    }


def test_a_picture_with_too_many_pixels_is_refused(folder, monkeypatch):
    from parity.network.inputs import picture

    monkeypatch.setattr(picture, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match="12×10 are more than 100 pixels"):
        open_dataset(folder)


def test_formats_that_are_not_listed_are_not_tried(folder):
    # A PPM picture under the name of a PNG file.
    (folder / "train" / "cat" / "0.png").write_bytes(b"P6 1 1 255\n\0\0\0")
    with pytest.raises(InputError, match="is no image"):
        open_dataset(folder)
