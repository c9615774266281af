"""The images of one split: 8-bit pixels by index, with a class for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parity import files
from parity.errors import InputError
from parity.training.data import decoding

Array = NDArray[Any]


class Images(Protocol):
    """Images of one split. An instance can be sent to another process."""

    @property
    def labels(self) -> tuple[int, ...]:
        """The index of each image's class."""

    def read(self, index: int, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
        """Return the pixels of one image, resized: (H, W, C).

        Raises `InputError` for an image that cannot be read.
        """

    def describe(self, index: int) -> str:
        """Return the name of one image, for messages."""

    def fingerprints(self) -> Iterator[bytes]:
        """Yield bytes that identify each image's name and content."""


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images that are in memory: `pixels` is (N, H, W), grey; `positions` are those of the split.

    `source` names where they are from.
    """

    source: str
    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]
    positions: tuple[int, ...]

    def read(self, index: int, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
        return decoding.resize_pixels(self.pixels[index], size, channels)

    def describe(self, index: int) -> str:
        return f"{self.source}: image {self.positions[index]}"

    def fingerprints(self) -> Iterator[bytes]:
        for position, pixels in zip(self.positions, self.pixels, strict=True):
            yield f"{position}".encode() + hashlib.sha256(pixels.tobytes()).digest()


@dataclass(frozen=True)
class FileImages:
    """Images that are files; `root` is the folder that their names are relative to."""

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def read(self, index: int, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
        return decoding.read_image(self.root / self.paths[index], size, channels)

    def describe(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def fingerprints(self) -> Iterator[bytes]:
        for name in self.paths:
            try:
                content = files.read_bytes(self.root / name, longest=decoding.MAX_BYTES)
            except OSError as error:
                raise InputError(f"{self.root / name}: cannot be read: {error.strerror}") from error
            yield name.encode() + hashlib.sha256(content).digest()


@dataclass(frozen=True)
class SelectedImages:
    """Some of the images of a split, by their indices there."""

    source: Images
    indices: tuple[int, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(self.source.labels[index] for index in self.indices)

    def read(self, index: int, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
        return self.source.read(self.indices[index], size, channels)

    def describe(self, index: int) -> str:
        return self.source.describe(self.indices[index])

    def fingerprints(self) -> Iterator[bytes]:
        every = list(self.source.fingerprints())
        return (every[index] for index in self.indices)


def find_image_size(images: Images) -> tuple[int, int] | None:
    """Return the (H, W) that all images have; None for files, which may differ."""
    if isinstance(images, SelectedImages):
        return find_image_size(images.source)
    if isinstance(images, ArrayImages):
        _, height, width = images.pixels.shape
        return height, width
    return None


def select_images(images: Images, indices: Sequence[int]) -> Images:
    """Return some of the images, without the others' names and pixels: to send to a process."""
    if isinstance(images, SelectedImages):
        return select_images(images.source, [images.indices[index] for index in indices])
    labels = tuple(images.labels[index] for index in indices)
    if isinstance(images, FileImages):
        return replace(images, paths=tuple(images.paths[i] for i in indices), labels=labels)
    if isinstance(images, ArrayImages):
        positions = tuple(images.positions[index] for index in indices)
        pixels = images.pixels[list(indices)]
        return replace(images, pixels=pixels, labels=labels, positions=positions)
    return SelectedImages(images, tuple(indices))
