"""What the outputs of all subjects on one split say: figures, changed labels, who is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parity.errors import InputError
from parity.evaluation import scores
from parity.evaluation.passes import Outputs
from parity.evaluation.results import ChangedImage, Label, ReferenceSample, SplitResult
from parity.numerics.probabilities import log_probabilities
from parity.training.data.batches import BatchPlan, BatchReader
from parity.training.data.images import SelectedImages

Array = NDArray[Any]

MOST_REFERENCES = 256
"""The changed images that the float64 reference is run on, beyond its sample."""


class ReferencePasses(Protocol):
    """What runs the float64 reference."""

    def run_reference(self, reader: BatchReader) -> list[Array]:
        """Return the float64 outputs of all batches of a reader, in order."""


def require_classes(outputs: Outputs, classes: Sequence[str], data: str) -> None:
    """Raise `InputError` unless every subject has an output for each class."""
    for name, array in outputs.by_subject.items():
        if array.shape[1] != len(classes):
            raise InputError(
                f"{name}: the model has {array.shape[1]} classes, {data} has {len(classes)}"
            )


def drop_non_finite(outputs: Outputs, reader: BatchReader) -> None:
    """Turn a subject whose outputs have a NaN or Inf into a failure."""
    for name, array in list(outputs.by_subject.items()):
        index = scores.find_non_finite(array)
        if index is not None:
            where = reader.images.describe(index)
            outputs.failures[name] = f"{name}: the outputs of {where} are not finite"
            del outputs.by_subject[name]


def judge_split(
    name: str,
    outputs: Outputs,
    reader: BatchReader,
    passes: ReferencePasses,
    classes: Sequence[str],
    *,
    runtime: str | None,
) -> SplitResult:
    """Return the figures of a split; the reference is run on the images whose label changes.

    `runtime` computes the reference; None if nothing does.
    """
    labels = reader.images.labels
    sample = None if runtime is None else _describe_sample(outputs, reader, runtime)
    changed = scores.find_changed_labels(outputs.by_subject) if outputs.by_subject else []
    reference = dict(outputs.reference)
    missing = [index for index in changed if index not in reference][:MOST_REFERENCES]
    if missing and runtime is not None:
        selection = SelectedImages(reader.images, tuple(missing))
        plan = BatchPlan(len(missing), reader.plan.batch, shuffle=False)
        arrays = passes.run_reference(replace(reader, images=selection, plan=plan))
        reference.update(zip(missing, np.concatenate(arrays), strict=True))
    return SplitResult(
        name=name,
        images=len(labels),
        scores={
            subject: scores.measure_scores(array, labels)
            for subject, array in outputs.by_subject.items()
        },
        changed=tuple(
            _describe_change(index, outputs.by_subject, reference.get(index), reader, classes)
            for index in changed
        ),
        reference=sample,
        seconds=dict(outputs.seconds),
    )


def _describe_sample(outputs: Outputs, reader: BatchReader, runtime: str) -> ReferenceSample | None:
    if not outputs.reference:
        return None
    expected = np.stack(list(outputs.reference.values()))
    plan = reader.plan
    return ReferenceSample(
        runtime=runtime,
        images=len(outputs.reference),
        passes=len({index // plan.batch for index in outputs.reference}),
        all_passes=plan.steps,
        largest_error={
            name: scores.largest_error(array, outputs.reference)
            for name, array in outputs.by_subject.items()
        },
        smallest_margin=float(scores.margins(expected).min()),
    )


def _describe_change(
    index: int,
    outputs: Mapping[str, Array],
    reference: Array | None,
    reader: BatchReader,
    classes: Sequence[str],
) -> ChangedImage:
    labels = {name: describe_label(array[index], classes) for name, array in outputs.items()}
    right = None if reference is None else describe_label(reference, classes)
    return ChangedImage(
        index=index,
        name=reader.images.describe(index),
        true=classes[reader.images.labels[index]],
        labels=labels,
        reference=right,
        right=tuple(
            name for name, label in labels.items() if right is not None and label.name == right.name
        ),
    )


def describe_label(outputs: Array, classes: Sequence[str]) -> Label:
    """Return the label that one image's outputs (classes,) give it."""
    row = outputs[None]
    index = int(row.argmax())
    probability = float(np.exp(log_probabilities(row)[0, index]))
    return Label(classes[index], probability, float(scores.margins(row)[0]))
