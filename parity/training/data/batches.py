"""Batches of a split: which images, in which order, preprocessed to the arrays that models take."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import InputError, UsageError
from parity.training.data.augmentation import Augmentation, Change, apply_matrix
from parity.training.data.images import Images

_ORDER = 0x6F726472
"""Separates the random numbers of the order from others with the same seed."""


@dataclass(frozen=True)
class Preprocessing:
    """The arrays that a model takes: size, channels and scale.

    A pixel p of 0 to 255 becomes (p / 255 − mean) / deviation, for each channel. Raises
    `UsageError` for values that are invalid.
    """

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UsageError(f"--channels: images have 1 or 3 channels, found {self.channels}")
        if bool(self.mean) != bool(self.deviation):
            raise UsageError("--mean and --deviation: give both or neither")
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if values and len(values) != self.channels:
                raise UsageError(
                    f"--{name}: expected {self.channels} numbers, one for each channel, found "
                    f"{len(values)}"
                )
            if not all(map(math.isfinite, values)):
                raise UsageError(f"--{name}: expected finite numbers, found {list(values)}")
        if any(value <= 0 for value in self.deviation):
            raise UsageError(f"--deviation: must be above 0, found {list(self.deviation)}")

    def to_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in data.items()}

    def scale(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale pixels (H, W, C) of 0 to 255."""
        scaled = pixels * np.float32(1 / 255)
        if self.mean:
            scaled -= np.array(self.mean, np.float32)
            scaled /= np.array(self.deviation, np.float32)
        return scaled


@dataclass(frozen=True)
class BatchPlan:
    """The order of a split's images: shuffled by (seed, epoch), or as they are.

    An optimizer step has a group of `accumulate` batches, its micro-batches; the last group of an
    epoch has the batches that are left. `drop_last` leaves out the last group of an epoch if it is
    smaller than the others, in images.
    """

    images: int
    batch: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"--{name}: must be a whole number above 0, found {value}")

    @property
    def steps(self) -> int:
        """The number of batches of an epoch; with `drop_last` at least one."""
        if self.drop_last:
            whole = self.images // self.batch
            # Of less than a group, the batches that there are.
            return max(1, whole - whole % self.accumulate, min(whole, self.accumulate))
        return -(-self.images // self.batch)

    @property
    def updates(self) -> int:
        """The number of optimizer steps of an epoch: of groups of batches."""
        return -(-self.steps // self.accumulate)

    def group(self, update: int) -> range:
        """Return the batches of an optimizer step; both count from 0 in an epoch."""
        first = update * self.accumulate
        return range(first, min(first + self.accumulate, self.steps))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of all images in the order of an epoch; epochs count from 1."""
        if not self.shuffle:
            return np.arange(self.images)
        return np.random.default_rng([_ORDER, self.seed, epoch]).permutation(self.images)

    def indices(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return the indices of one batch's images; steps of an epoch count from 0."""
        if not 0 <= step < self.steps:
            raise UsageError(f"an epoch has {self.steps} steps, found step {step}")
        return self.order(epoch)[step * self.batch : (step + 1) * self.batch]


@dataclass(frozen=True, eq=False)
class Batch:
    """The arrays of one batch: images (N, C, H, W) float32 and class indices (N,) int64.

    `micro_batch_sizes` are the numbers of images of its micro-batches; () is one.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    micro_batch_sizes: tuple[int, ...] = ()

    @property
    def sha256(self) -> str:
        """The SHA-256 of shapes and values."""
        total = hashlib.sha256(f"{self.images.shape}{self.labels.shape}".encode())
        total.update(np.ascontiguousarray(self.images, "<f4").tobytes())
        total.update(np.ascontiguousarray(self.labels, "<i8").tobytes())
        return total.hexdigest()


@dataclass(frozen=True)
class BatchReader:
    """Reads batches of one split: decode, resize, augment, scale. It can be sent to a process.

    `augmentation` is None for validation and test images. Every image's changes depend on (seed,
    epoch, index) alone, so that any batch can be read without those before it.
    """

    images: Images
    plan: BatchPlan
    preprocessing: Preprocessing
    augmentation: Augmentation | None = None

    def read(self, epoch: int, step: int) -> Batch:
        """Return one batch. Raises `InputError` for an image that cannot be read."""
        indices = self.plan.indices(epoch, step)
        size, channels = self.preprocessing.image_size, self.preprocessing.channels
        arrays = np.empty((len(indices), channels, *size), np.float32)
        for place, index in enumerate(indices.tolist()):
            pixels = self.images.read(index, size, channels).astype(np.float32)
            if self.augmentation is not None and not self.augmentation.is_identity:
                change = Change.draw(
                    self.augmentation, size, seed=self.plan.seed, epoch=epoch, index=index
                )
                pixels = apply_matrix(pixels, change.matrix(size))
            arrays[place] = self.preprocessing.scale(pixels).transpose(2, 0, 1)
        labels = np.array([self.images.labels[index] for index in indices.tolist()], np.int64)
        if not len(labels):
            raise InputError("a batch has no image")
        return Batch(arrays, labels)

    def read_group(self, epoch: int, update: int) -> Batch:
        """Return the micro-batches of an optimizer step as one batch. Raises as `read`."""
        parts = [self.read(epoch, step) for step in self.plan.group(update)]
        return join_batches(parts)


def join_batches(parts: Sequence[Batch]) -> Batch:
    """Return one batch of several, which are its micro-batches."""
    if len(parts) == 1:
        return parts[0]
    return Batch(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(len(part.labels) for part in parts),
    )
