"""The result of an evaluation as data: figures by runtime, and the images whose label changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parity.evaluation.scores import Scores

SCHEMA = "parity.evaluation/1"


@dataclass(frozen=True)
class Label:
    """A predicted class, its probability, and its margin: the lead over the next class's logit."""

    name: str
    probability: float
    margin: float

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class ChangedImage:
    """An image whose label is not the same in all runtimes.

    `index` is its place in the split, `true` its class. `reference` is the float64 label, None
    where the reference was not run, and `right` are the runtimes that have that label.
    """

    index: int
    name: str
    true: str
    labels: Mapping[str, Label]
    reference: Label | None
    right: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "name": self.name,
            "true": self.true,
            "labels": {name: label.to_json() for name, label in self.labels.items()},
            "reference": None if self.reference is None else self.reference.to_json(),
            "right": list(self.right),
        }


@dataclass(frozen=True)
class ReferenceSample:
    """The float64 reference, which `runtime` computes, on `images` images of `passes` passes.

    `largest_error` is, by runtime, that of a logit; `smallest_margin` that of the sampled images.
    A label can change where the error reaches half the margin.
    """

    runtime: str
    images: int
    passes: int
    all_passes: int
    largest_error: Mapping[str, float]
    smallest_margin: float

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "largest_error": dict(self.largest_error)}


@dataclass(frozen=True)
class SplitResult:
    """The figures of one split, by runtime."""

    name: str
    images: int
    scores: Mapping[str, Scores]
    changed: tuple[ChangedImage, ...]
    reference: ReferenceSample | None
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "runtimes": {name: scores.to_json() for name, scores in self.scores.items()},
            "changed": [image.to_json() for image in self.changed],
            "reference": None if self.reference is None else self.reference.to_json(),
            "seconds": dict(self.seconds),
        }


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation; `failures` are the runtimes that could not be evaluated, and why.

    `unreadable` are the reasons why image files were left out.
    """

    model: str
    weights: str | None
    data: str
    classes: tuple[str, ...]
    splits: tuple[SplitResult, ...]
    unreadable: tuple[str, ...]
    failures: Mapping[str, str]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> int:
        """The number of images whose label is not the same in all runtimes."""
        return sum(len(split.changed) for split in self.splits)

    @property
    def exit_code(self) -> int:
        """1 where a label changes, else 3 where a runtime failed or an image was unreadable."""
        if self.changed:
            return 1
        return 3 if self.failures or self.unreadable else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "weights": self.weights,
            "data": self.data,
            "classes": list(self.classes),
            "splits": {split.name: split.to_json() for split in self.splits},
            "unreadable": list(self.unreadable),
            "failures": dict(self.failures),
            "versions": dict(self.versions),
            "notes": list(self.notes),
        }
