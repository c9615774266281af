"""The figures of a classifier's outputs: loss, top-1, top-5, confusion matrix, changed labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.numerics.probabilities import are_probabilities, log_probabilities

Array = NDArray[Any]

TOP = 5


@dataclass(frozen=True)
class Scores:
    """One subject's figures on labelled images.

    `loss` is the mean cross-entropy, `top1` and `top5` are shares of the images. `confusion` is
    (classes, classes): the number of images by true class (row) and predicted class (column).
    """

    loss: float
    top1: float
    top5: float
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "top1": self.top1,
            "top5": self.top5,
            "confusion": [list(row) for row in self.confusion],
        }


def margins(outputs: Array) -> NDArray[np.float64]:
    """Return how far each image's label is from changing: the difference of its two largest logits.

    A softmax keeps differences of logits as those of the logarithms.
    """
    two = np.partition(log_probabilities(outputs), -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def measure_scores(outputs: Array, labels: Sequence[int]) -> Scores:
    """Return the figures of outputs (N, classes) for the images' true classes."""
    true = np.asarray(labels, np.int64)
    logs = log_probabilities(outputs)
    images, classes = outputs.shape
    predicted = outputs.argmax(axis=1)
    own = logs[np.arange(images), true]
    better = (logs > own[:, None]).sum(axis=1)
    flat = np.bincount(true * classes + predicted, minlength=classes * classes)
    return Scores(
        loss=float(-own.mean()),
        top1=float((predicted == true).mean()),
        top5=float((better < TOP).mean()),
        confusion=tuple(map(tuple, flat.reshape(classes, classes).tolist())),
    )


def find_changed_labels(outputs: Mapping[str, Array]) -> list[int]:
    """Return the images whose label is not the same in all subjects, ascending."""
    labels = np.stack([array.argmax(axis=1) for array in outputs.values()])
    return np.flatnonzero((labels != labels[0]).any(axis=0)).tolist()


def find_non_finite(outputs: Array) -> int | None:
    """Return the first image whose outputs have a NaN or Inf, None if there is none."""
    bad = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    return int(bad[0]) if len(bad) else None


def largest_error(outputs: Array, reference: Mapping[int, Array]) -> float:
    """Return the largest difference of the logits from the float64 reference's.

    Of probabilities, it is that of their logarithms, over the classes with a probability of at
    least 1e-6: of smaller ones float32 keeps too few digits.
    """
    indices = sorted(reference)
    expected = np.stack([reference[index] for index in indices])
    actual = outputs[indices]
    if not are_probabilities(expected):
        return float(np.abs(actual.astype(np.float64) - expected).max())
    difference = np.abs(log_probabilities(actual) - log_probabilities(expected))
    return float(difference[expected >= 1e-6].max())
