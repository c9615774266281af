"""The labelled images of an evaluation: the splits that are asked for, with the model's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.defaults import VALIDATION_SHARE
from parity.errors import InputError, UsageError
from parity.text import quote
from parity.training.data import idx, sources
from parity.training.data.dataset import Dataset, require_classes, require_every_class
from parity.training.data.images import ArrayImages, FileImages, Images

ALL = "all"
SPLITS = ("training", "validation", "test", ALL)


@dataclass(frozen=True)
class LabelledImages:
    """Images by split; a class's index is its place in `classes`.

    `channels` is 1 for grey images and 3 for coloured ones. `unreadable` are the reasons why image
    files were left out.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    splits: Mapping[str, Images]
    unreadable: tuple[str, ...] = ()


def open_labelled(
    source: str | Path,
    *,
    split: str | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
    validation_share: float = VALIDATION_SHARE,
) -> LabelledImages:
    """Open the images to evaluate a model on; `classes` are the model's, if it tells them.

    `split` is one of `SPLITS`. By default it is validation and test, or all images of a folder
    that has no such parts. Files that cannot be decoded are left out and listed.

    Raises `InputError` for data without images or with classes that the model does not have, and
    `UsageError` for a split that the data do not have.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"--split: expected one of {', '.join(SPLITS)}, found {quote(split)}")
    folder = Path(source)
    if str(source) != sources.DIGITS and folder.is_dir() and not idx.is_idx_folder(folder):
        found = _open_folder(folder, split, tuple(classes), seed, validation_share)
    else:
        dataset = sources.open_dataset(source, seed=seed, validation_share=validation_share)
        found = _select(dataset, split)
    return _use_classes(found, tuple(classes)) if classes else found


def _select(dataset: Dataset, split: str | None) -> LabelledImages:
    """Return the splits of a data set that are asked for."""
    wanted = {None: ("validation", "test"), ALL: tuple(dataset.splits)}.get(split, (split,))
    chosen = {name: images for name, images in dataset.splits.items() if name in wanted}
    if not chosen:
        raise UsageError(f"--split {split}: {dataset.name} has {', '.join(dataset.splits)}")
    return LabelledImages(
        dataset.name, dataset.classes, dataset.channels, chosen, dataset.unreadable
    )


def _open_folder(
    folder: Path, split: str | None, classes: tuple[str, ...], seed: int, share: float
) -> LabelledImages:
    parts = sources.find_split_folders(folder)
    if not parts and split in (None, ALL):
        return _read_folders(folder, {ALL: folder}, classes)
    wanted = {None: ("validation", "test"), ALL: tuple(parts)}.get(split, (split,))
    present = {name: path for name, path in parts.items() if name in wanted}
    if present:
        return _read_folders(folder, present, classes or _names(parts))
    if split == "test":
        raise UsageError(f"--split test: {folder} has no folder test/")
    # The validation images are a share of the others.
    dataset = sources.open_dataset(folder, seed=seed, validation_share=share, skip_unreadable=True)
    return _select(dataset, split)


def _names(parts: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the class names of the training folder, else of the first that there is."""
    return sources.class_names(parts.get("training") or next(iter(parts.values())))


def _read_folders(
    folder: Path, parts: Mapping[str, Path], classes: tuple[str, ...]
) -> LabelledImages:
    """Read the folders of splits; a split may lack some of the classes."""
    splits: dict[str, Images] = {}
    unreadable: list[str] = []
    known = classes or sources.class_names(folder)
    if not classes:
        require_classes(str(folder), known)
    for name, path in parts.items():
        present = sources.class_names(path)
        _require_known(str(path), present, known)
        found = sources.read_split(path, present)
        unreadable += found.unreadable
        require_every_class(str(path), present, found.images.labels)
        labels = tuple(known.index(present[label]) for label in found.images.labels)
        splits[name] = replace(found.images, labels=labels)
    return LabelledImages(str(folder), known, 3, splits, tuple(unreadable))


def _use_classes(data: LabelledImages, classes: tuple[str, ...]) -> LabelledImages:
    """Return the images with their classes' places among those of the model."""
    if data.classes == classes:
        return data
    _require_known(data.name, data.classes, classes)
    places = [classes.index(name) for name in data.classes]

    def renumber(images: Images) -> Images:
        assert isinstance(images, ArrayImages | FileImages)
        return replace(images, labels=tuple(places[label] for label in images.labels))

    splits = {name: renumber(images) for name, images in data.splits.items()}
    return replace(data, classes=classes, splits=splits)


def _require_known(name: str, classes: Sequence[str], known: Sequence[str]) -> None:
    """Raise `InputError` for a class of the data that the model does not have."""
    unknown = [each for each in classes if each not in known]
    if unknown:
        shown = ", ".join(map(quote, known[:5])) + (", …" if len(known) > 5 else "")
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise InputError(
            f"{name}: class {quote(unknown[0])}{more} is none of the model's {len(known)} classes "
            f"({shown})"
        )
