"""A data set: class names, and the images of its training, validation and test splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from parity.errors import InputError
from parity.text import quote
from parity.training.data.images import Images

MIN_CLASSES = 2


@dataclass(frozen=True)
class Dataset:
    """The splits of one data set; a class's index is its place in `classes`.

    `name` is how the user named it, `channels` 1 for grey images and 3 for coloured ones.
    `unreadable` are the reasons why image files were left out.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    training: Images
    validation: Images
    test: Images | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, Images]:
        """The splits that there are, by name."""
        splits = {"training": self.training, "validation": self.validation}
        return splits if self.test is None else {**splits, "test": self.test}

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the classes and of every image's name, class and content."""
        total = hashlib.sha256(json.dumps([self.classes, self.channels]).encode())
        for split, images in self.splits.items():
            total.update(json.dumps([split, len(images.labels)]).encode())
            for label, fingerprint in zip(images.labels, images.fingerprints(), strict=True):
                total.update(hashlib.sha256(f"{label} ".encode() + fingerprint).digest())
        return total.hexdigest()


def split_by_class(
    labels: Sequence[int], *, share: float, seed: int, classes: int
) -> tuple[list[int], list[int]]:
    """Return the positions of the training images and of the validation images, sorted.

    `share` of each class, rounded, goes to the validation split, and at least one image to each
    split; a class has at least two images.
    """
    positions = np.asarray(labels)
    validation: list[int] = []
    for label in range(classes):
        of_class = np.flatnonzero(positions == label)
        count = min(max(1, round(share * len(of_class))), len(of_class) - 1)
        order = np.random.default_rng([seed, label]).permutation(len(of_class))
        validation += of_class[order[:count]].tolist()
    chosen = set(validation)
    training = [position for position in range(len(labels)) if position not in chosen]
    return training, sorted(validation)


def require_classes(name: str, classes: Sequence[str]) -> None:
    """Raise `InputError` unless there are at least two classes."""
    if len(classes) < MIN_CLASSES:
        found = f"only {quote(classes[0])}" if classes else "none"
        raise InputError(f"{name}: expected at least {MIN_CLASSES} classes, found {found}")


def require_every_class(
    name: str, classes: Sequence[str], labels: Sequence[int], *, least: int = 1
) -> None:
    """Raise `InputError` for a class that has fewer than `least` images."""
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes))
    for class_name, count in zip(classes, counts.tolist(), strict=True):
        if count < least:
            needed = "one image" if least == 1 else f"{least} images, to be split"
            raise InputError(
                f"{name}: class {quote(class_name)} has {count or 'no'} image"
                f"{'' if count == 1 else 's'} that can be read; every class needs {needed}"
            )
