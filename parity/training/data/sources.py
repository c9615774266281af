"""The sources of a data set: `digits`, a folder with a sub-folder for each class, IDX files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from parity import files
from parity.defaults import VALIDATION_SHARE
from parity.errors import InputError, OutputError, RequirementError, UsageError
from parity.network.inputs import picture
from parity.processes import origin
from parity.text import quote
from parity.training.data import decoding, idx
from parity.training.data.dataset import (
    Dataset,
    require_classes,
    require_every_class,
    split_by_class,
)
from parity.training.data.images import ArrayImages, FileImages

DIGITS = "digits"

SPLIT_FOLDERS = {
    "training": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
"""The names of the folders of each split."""


class SplitFiles(NamedTuple):
    """The images of one split's folder, and the reasons why files were left out."""

    images: FileImages
    unreadable: list[str]


def open_dataset(
    source: str | Path,
    *,
    seed: int = 0,
    validation_share: float = VALIDATION_SHARE,
    skip_unreadable: bool = False,
    validate_on_test: bool = False,
) -> Dataset:
    """Open the data set that a user names: `digits`, an image folder, a folder of IDX files.

    An image folder holds `train/` and perhaps `val/` and `test/`, each with a sub-folder for each
    class, or the classes' sub-folders themselves. Without `val/`, `validation_share` of each class
    is taken from the training images by `seed`. Every file is decoded once; files that cannot be
    are an error, or, with `skip_unreadable`, left out and listed in `Dataset.unreadable`. With
    `validate_on_test` the test images validate, and all training images train.

    Raises `InputError` for data that cannot be trained on, `UsageError` for a negative seed, and
    `RequirementError` where scikit-learn, which has the digits, is not installed.
    """
    if not 0 < validation_share < 1:
        raise InputError(
            f"validation share: expected a number between 0 and 1, found {validation_share!r}"
        )
    if seed < 0:
        raise UsageError(f"--seed: must be 0 or more, found {seed}")
    if validate_on_test:
        return _open_with_test(source, seed, skip_unreadable)
    if str(source) == DIGITS:
        return _open_digits(seed, validation_share)
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(
            f"--data {quote(str(source))}: no such folder; give one with a sub-folder for each "
            f"class, a folder of IDX files, or {DIGITS!r}"
        )
    if idx.is_idx_folder(folder):
        return _open_idx(folder, seed, validation_share)
    return _open_folder(folder, seed, validation_share, skip_unreadable)


def _open_with_test(source: str | Path, seed: int, skip_unreadable: bool) -> Dataset:
    """Return the data set whose test images validate. Raises `InputError` if it has none."""
    folder = Path(source)
    if folder.is_dir() and idx.is_idx_folder(folder):
        return _open_idx(folder, seed, None)
    dataset = open_dataset(source, seed=seed, skip_unreadable=skip_unreadable)
    if dataset.test is None:
        raise InputError(f"--validate-on-test: {source} has no test images")
    if "validation" not in find_split_folders(folder):
        # Part of the training images would validate, and then do neither.
        raise InputError(f"{folder}: --validate-on-test needs val/, too; or rename test/ to val/")
    return replace(dataset, validation=dataset.test, test=None)


# The digits of scikit-learn -----------------------------------------------------------------------


def load_digits() -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], tuple[int, ...]]:
    """Return scikit-learn's 1,797 handwritten digits: pixels (N, 8, 8) of 0 to 255, and labels.

    Raises `RequirementError` where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise RequirementError(
            "the digits are scikit-learn's, which is not installed: "
            + origin.install_command("train", ["scikit-learn"])
        ) from error
    digits = load()
    # Grey levels are 0 to 16.
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return pixels, tuple(map(int, digits.target))


def _open_digits(seed: int, share: float) -> Dataset:
    pixels, labels = load_digits()
    classes = tuple(map(str, range(10)))
    training, validation = split_by_class(labels, share=share, seed=seed, classes=len(classes))
    return Dataset(
        DIGITS,
        classes,
        channels=1,
        training=_select(DIGITS, pixels, labels, training),
        validation=_select(DIGITS, pixels, labels, validation),
    )


def _select(
    source: str,
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    labels: Sequence[int],
    positions: Sequence[int],
) -> ArrayImages:
    return ArrayImages(
        source, pixels[list(positions)], tuple(labels[p] for p in positions), tuple(positions)
    )


def write_digits(folder: Path, *, seed: int = 0, share: float = VALIDATION_SHARE) -> int:
    """Write the digits as an image folder, `train/CLASS/` and `val/CLASS/`; return their number.

    Raises `OutputError` for a folder that exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists and is not empty; give a new folder")
    dataset = _open_digits(seed, share)
    count = 0
    for split, images in (("train", dataset.training), ("val", dataset.validation)):
        assert isinstance(images, ArrayImages)
        for pixels, label, position in zip(
            images.pixels, images.labels, images.positions, strict=True
        ):
            path = folder / split / dataset.classes[label] / f"{position:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic_write(path) as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG")
            count += 1
    return count


# IDX files ----------------------------------------------------------------------------------------


def _open_idx(folder: Path, seed: int, share: float | None) -> Dataset:
    """Open IDX files; without a share all training images train, and the test images validate."""
    pixels, labels = idx.read_split(folder, "train")
    name = str(folder)
    count = max(labels) + 1
    classes = idx.class_names(folder, count)
    require_classes(name, classes)
    require_every_class(name, classes, labels, least=2)
    test = None
    if idx.has_split(folder, "t10k"):
        test_pixels, test_labels = idx.read_split(folder, "t10k")
        if max(test_labels) >= count:
            raise InputError(
                f"{folder}: the test labels have class {max(test_labels)}, the training labels "
                f"end at {count - 1}"
            )
        test = _select(name, test_pixels, test_labels, range(len(test_labels)))
    if share is None:
        if test is None:
            raise InputError(f"--validate-on-test: {folder} has no test images")
        whole = _select(name, pixels, labels, range(len(labels)))
        return Dataset(name, classes, channels=1, training=whole, validation=test)
    training, validation = split_by_class(labels, share=share, seed=seed, classes=len(classes))
    return Dataset(
        name,
        classes,
        channels=1,
        training=_select(name, pixels, labels, training),
        validation=_select(name, pixels, labels, validation),
        test=test,
    )


# Image folders ------------------------------------------------------------------------------------


def _open_folder(folder: Path, seed: int, share: float, skip_unreadable: bool) -> Dataset:
    split_folders = find_split_folders(folder)
    training_folder = split_folders.get("training", folder)
    classes = class_names(training_folder)
    if "training" not in split_folders and split_folders:
        raise InputError(f"{folder}: has no folder train/ beside val/ or test/")
    require_classes(str(training_folder), classes)
    training = read_split(training_folder, classes)
    found = {"training": training}
    for split in ("validation", "test"):
        split_folder = split_folders.get(split)
        if split_folder is not None:
            _require_same_classes(split_folder, classes)
            found[split] = read_split(split_folder, classes)
    unreadable = [reason for split in found.values() for reason in split.unreadable]
    if unreadable and not skip_unreadable:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise InputError(
            f"{len(unreadable)} of the image files cannot be read: {unreadable[0]}{more}; "
            "--skip-unreadable leaves them out"
        )
    is_split = "validation" not in found
    require_every_class(
        str(training_folder), classes, training.images.labels, least=2 if is_split else 1
    )
    if is_split:
        parts = split_by_class(training.images.labels, share=share, seed=seed, classes=len(classes))
        first, second = (_take(training.images, positions) for positions in parts)
    else:
        first, second = training.images, found["validation"].images
        require_every_class(str(split_folders["validation"]), classes, second.labels)
    return Dataset(
        str(folder),
        classes,
        channels=3,
        training=first,
        validation=second,
        test=found["test"].images if "test" in found else None,
        unreadable=tuple(unreadable),
    )


def find_split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of the splits that an image folder has, by split."""
    return {
        split: folder / name
        for split, names in SPLIT_FOLDERS.items()
        for name in [next((n for n in names if (folder / n).is_dir()), None)]
        if name is not None
    }


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the sub-folders, sorted, as Keras and torchvision sort them."""
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not names:
        raise InputError(
            f"{folder}: expected a sub-folder for each class, found no folder; put the images of "
            "each class into a folder with the class's name"
        )
    return tuple(names)


def _require_same_classes(folder: Path, classes: Sequence[str]) -> None:
    names = class_names(folder)
    unknown, missing = sorted(set(names) - set(classes)), sorted(set(classes) - set(names))
    if unknown or missing:
        text = (
            f"class {quote(unknown[0])} is not in train/"
            if unknown
            else f"class {quote(missing[0])} of train/ is missing"
        )
        raise InputError(f"{folder}: {text}; every split needs the same classes")


def read_split(folder: Path, classes: Sequence[str]) -> SplitFiles:
    """List the image files of a split, and decode each once to find the damaged ones."""
    names: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(classes):
        paths = sorted(
            path
            for path in (folder / class_name).rglob("*")
            if path.suffix.lower() in picture.SUFFIXES
            and not path.name.startswith(".")
            and path.is_file()
        )
        names += [path.relative_to(folder).as_posix() for path in paths]
        labels += [label] * len(paths)
    # Pillow releases Python's lock while it decodes.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        reasons = list(pool.map(lambda name: decoding.find_damage(folder / name), names))
    good = [index for index, reason in enumerate(reasons) if reason is None]
    images = FileImages(folder, tuple(names[i] for i in good), tuple(labels[i] for i in good))
    return SplitFiles(images, [reason for reason in reasons if reason is not None])


def _take(images: FileImages, positions: Sequence[int]) -> FileImages:
    return FileImages(
        images.root,
        tuple(images.paths[position] for position in positions),
        tuple(images.labels[position] for position in positions),
    )
