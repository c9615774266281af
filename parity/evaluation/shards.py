"""Shards of a split: whole passes that are evaluated anywhere, and their outputs as one again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import ChildError
from parity.evaluation.models import LoadedModels
from parity.evaluation.passes import Outputs
from parity.training.data.batches import BatchPlan

Array = NDArray[Any]

MOST_PASSES = 16
"""The passes of a shard: what is run again where its process is lost."""

FEWEST_SHARDS = 16
"""So many shards are made of a split that has the passes, so that as many processes can help."""


@dataclass(frozen=True)
class Shard:
    """Images `first` to `first + count - 1` of a split, which begin with a pass.

    The float64 reference runs on the passes `sampled`, counted from the shard's first.
    """

    first: int
    count: int
    sampled: tuple[int, ...] = ()

    @property
    def indices(self) -> range:
        """The places of its images in the split."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class ShardOutputs:
    """What a process computed of a shard, and the models that it had loaded."""

    shard: Shard
    models: LoadedModels
    outputs: Outputs


def plan_shards(plan: BatchPlan, sampled: Collection[int] = ()) -> list[Shard]:
    """Return the shards of a split: its passes stay as they are, so that no figure changes."""
    passes = min(MOST_PASSES, max(1, plan.steps // FEWEST_SHARDS))
    return [
        Shard(
            first=start * plan.batch,
            count=min(passes * plan.batch, plan.images - start * plan.batch),
            sampled=tuple(step - start for step in sorted(sampled) if 0 <= step - start < passes),
        )
        for start in range(0, plan.steps, passes)
    ]


def merge_outputs(found: Sequence[ShardOutputs], images: int) -> Outputs:
    """Return the outputs of a split of so many images, as if one process had run all passes.

    A subject that failed in one shard has failed. Raises `ChildError` unless every image is in
    one shard exactly.
    """
    ordered = sorted(found, key=lambda each: each.shard.first)
    _require_each_once([each.shard for each in ordered], images)
    merged = Outputs()
    for each in ordered:
        merged.failures = {**each.outputs.failures, **merged.failures}
        for name, seconds in each.outputs.seconds.items():
            merged.seconds[name] = merged.seconds.get(name, 0.0) + seconds
        for index, row in each.outputs.reference.items():
            merged.reference[each.shard.first + index] = row
    if "reference" in merged.failures:
        merged.reference.clear()
    for name in ordered[0].outputs.by_subject:
        arrays = [each.outputs.by_subject.get(name) for each in ordered]
        present = [array for array in arrays if array is not None]
        if len(present) == len(arrays):
            merged.by_subject[name] = np.concatenate(present)
    return merged


def merge_models(found: Sequence[LoadedModels]) -> LoadedModels:
    """Return the models that every process had, with the reasons of those that one had not."""
    first = found[0]
    failures: dict[str, str] = {}
    versions: dict[str, str] = {}
    for models in found:
        failures = {**models.failures, **failures}
        versions = {**models.versions, **versions}
    predictors = {
        name: predictor
        for name, predictor in first.predictors.items()
        if all(name in models.predictors for models in found)
    }
    children = {models.reference and models.reference.child for models in found}
    reference = first.reference if len(children) == 1 else None
    return LoadedModels(predictors, failures, reference, first.input_shape, versions, first.notes)


def find_other_versions(found: Sequence[LoadedModels]) -> dict[str, list[str]]:
    """Return the packages of which the processes had several versions, with those versions."""
    versions: dict[str, set[str]] = {}
    for models in found:
        for name, version in models.versions.items():
            versions.setdefault(name, set()).add(version)
    return {name: sorted(each) for name, each in sorted(versions.items()) if len(each) > 1}


def _require_each_once(shards: Sequence[Shard], images: int) -> None:
    """Raise `ChildError` for an image that is in no shard, or in two."""
    expected = 0
    for shard in [*shards, Shard(images, 0)]:
        if shard.first != expected:
            what = "is in no shard" if shard.first > expected else "is in two shards"
            image = min(shard.first, expected)
            raise ChildError(f"the shards of {images} images do not fit: image {image} {what}")
        expected = shard.first + shard.count
