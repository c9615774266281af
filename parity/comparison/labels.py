"""Comparison of the predicted labels, and of the errors with the top-1 margin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.comparison.results import LabelAgreement, Prediction
from parity.numerics.capture import CaptureReader
from parity.numerics.probabilities import are_probabilities, log_probabilities

Array = NDArray[np.float64]

REFERENCE = "reference"
"""The key of the float64 reference's prediction."""


def compare_labels(
    row: str, reference: Path, captures: Mapping[str, Path]
) -> LabelAgreement | None:
    """Compare the labels of the final output `row`, (N, classes); None for another output.

    A label can change once an error reaches half the difference of the two largest logits.
    """
    with CaptureReader(reference) as reader:
        expected = reader.read(row).astype(np.float64)
    if expected.ndim != 2 or expected.shape[1] < 2:
        return None
    logits = np.sort(expected, axis=1)
    margin = float((logits[:, -1] - logits[:, -2]).min())
    top1, top5, ratio = {}, {}, {}
    for name, path in captures.items():
        with CaptureReader(path) as reader:
            actual = reader.read(row).astype(np.float64)
        if actual.shape != expected.shape:
            continue
        top1[name] = float((actual.argmax(axis=1) == expected.argmax(axis=1)).mean())
        top5[name] = _top_k_agreement(actual, expected, 5)
        error = float(np.abs(actual - expected).max())
        ratio[name] = 2.0 * error / margin if margin else float("inf")
    return LabelAgreement(top1, top5, margin, ratio)


def predict_first(row: str, reference: Path, captures: Mapping[str, Path]) -> dict[str, Prediction]:
    """Return the most probable class of the first item, by subject and `REFERENCE`.

    `row` is the final output, (N, classes), logits or probabilities; {} for another output. A
    subject whose outputs are not finite, or have another shape, has none.
    """
    found: dict[str, Prediction] = {}
    shape: tuple[int, ...] | None = None
    for name, path in {REFERENCE: reference, **captures}.items():
        with CaptureReader(path) as reader:
            outputs = np.asarray(reader.read(row))
        if shape is None:
            shape = outputs.shape
            if outputs.ndim != 2 or outputs.shape[1] < 2:
                return {}
        if outputs.shape == shape and np.isfinite(outputs[0]).all():
            probabilities = np.exp(log_probabilities(outputs[:1])[0])
            index = int(outputs[0].argmax())
            found[name] = Prediction(index, float(probabilities[index]))
    return found


def ends_in_softmax(row: str, reference: Path) -> bool:
    """Return whether the outputs of `row`, (N, classes), are probabilities."""
    with CaptureReader(reference) as reader:
        return are_probabilities(np.asarray(reader.read(row)))


def _top_k_agreement(actual: Array, expected: Array, count: int) -> float:
    """Return the fraction of the batch whose `count` best classes agree, in any order."""
    count = min(count, expected.shape[1])
    pairs = zip(actual.argsort(axis=1), expected.argsort(axis=1), strict=True)
    same = [set(left[-count:]) == set(right[-count:]) for left, right in pairs]
    return float(np.mean(same))
