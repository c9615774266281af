"""Passes of images through all subjects: none waits for another, and each batch is loaded once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import SUBJECT_ERRORS
from parity.evaluation.models import LoadedModels, Predictor, Progress
from parity.processes.children import Children
from parity.text import describe_remaining
from parity.training.data.batches import BatchReader
from parity.training.data.loading import AHEAD, BatchFiles, BatchLoader

Array = NDArray[Any]

MOST_FILES = 64
"""The batches that may be on disk at once; a subject that is so far ahead of another waits."""

SAMPLED_PASSES = 16
"""The float64 reference runs on one pass in so many, and on one at least."""


def sample_passes(steps: int, *, every: bool) -> frozenset[int]:
    """Return the passes, spread evenly, on which the float64 reference runs."""
    if every:
        return frozenset(range(steps))
    count = max(1, steps // SAMPLED_PASSES)
    return frozenset(math.floor((number + 0.5) * steps / count) for number in range(count))


class SharedBatches:
    """The batches of one epoch, for several consumers that each take them in order.

    A batch's files are deleted when the last consumer has released it.
    """

    def __init__(
        self, loader: BatchLoader, reader: BatchReader, consumers: Mapping[str, Sequence[int]]
    ) -> None:
        """`consumers` are the steps that each consumer takes, ascending."""
        self._loader = loader
        self._reader = reader
        self._left = dict.fromkeys(range(reader.plan.steps), 0)
        for steps in consumers.values():
            for step in steps:
                self._left[step] += 1
        self._needed = [step for step, count in self._left.items() if count]
        self._batches: dict[int, Future[BatchFiles]] = {}
        self._next = 0
        self._condition = threading.Condition()

    def take(self, step: int) -> BatchFiles:
        """Return a batch, when it is loaded. Raises `InputError` for an image that cannot be read.

        Waits while too many batches are on disk and this one is not among them.
        """
        with self._condition:
            while step not in self._batches:
                if self._next < len(self._needed) and len(self._batches) < MOST_FILES:
                    self._submit()
                else:
                    self._condition.wait()
            ahead = sum(1 for other in self._batches if other > step)
            while (
                ahead < AHEAD and self._next < len(self._needed) and len(self._batches) < MOST_FILES
            ):
                self._submit()
                ahead += 1
            future = self._batches[step]
        return future.result()

    def _submit(self) -> None:
        step = self._needed[self._next]
        self._next += 1
        name = f"evaluation-{id(self)}-{step}"
        self._batches[step] = self._loader.submit(self._reader, 1, step, name=name)

    def release(self, step: int) -> None:
        """Tell that a consumer needs a batch no more, whether it took it or not."""
        with self._condition:
            self._left[step] -= 1
            if self._left[step] == 0:
                future = self._batches.pop(step, None)
                if future is not None and future.done() and future.exception() is None:
                    future.result().delete()
                elif step in self._needed[self._next :]:
                    self._needed.remove(step)
            self._condition.notify_all()


@dataclass
class Outputs:
    """What the subjects computed: outputs (images, classes) by name.

    `reference` has the float64 outputs by image; `seconds` are those of the passes alone.
    """

    by_subject: dict[str, Array] = field(default_factory=dict)
    reference: dict[int, Array] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Passes:
    """Runs the loaded subjects and the float64 reference on batches."""

    def __init__(
        self,
        models: LoadedModels,
        children: Children,
        loader: BatchLoader,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._models = models
        self._children = children
        self._loader = loader
        self._folder = folder
        self._progress = progress

    def run(self, reader: BatchReader, *, sampled: Collection[int] = ()) -> Outputs:
        """Run all images through every subject, and the passes `sampled` through the reference.

        A subject whose runtime fails has its reason in `failures`. Raises the errors of the input.
        """
        steps = range(reader.plan.steps)
        consumers: dict[str, Sequence[int]] = dict.fromkeys(self._models.predictors, steps)
        reference = self._models.reference
        if sampled and reference is not None:
            consumers["reference"] = sorted(sampled)
        batches = SharedBatches(self._loader, reader, consumers)
        outputs = Outputs()
        with self._children.threads(len(consumers)) as pool:
            tasks = {
                name: pool.submit(
                    self._run_one,
                    reference if name == "reference" else self._models.predictors[name],
                    batches,
                    own,
                    outputs,
                )
                for name, own in consumers.items()
            }
            for name, task in tasks.items():
                found = _result_or_failure(task, name, outputs.failures)
                if found is None:
                    continue
                if name == "reference":
                    _spread(found, sorted(sampled), reader, outputs.reference)
                else:
                    outputs.by_subject[name] = np.concatenate(found)
        return outputs

    def run_reference(self, reader: BatchReader) -> list[Array]:
        """Return the float64 outputs of all batches of a reader."""
        assert self._models.reference is not None
        steps = range(reader.plan.steps)
        batches = SharedBatches(self._loader, reader, {"reference": steps})
        return self._run_one(self._models.reference, batches, steps, Outputs())

    def _run_one(
        self,
        predictor: Predictor | None,
        batches: SharedBatches,
        steps: Sequence[int],
        outputs: Outputs,
    ) -> list[Array]:
        """Return the outputs of one subject, batch by batch."""
        assert predictor is not None
        found: list[Array] = []
        pending = list(steps)
        target = self._folder / f"outputs-{predictor.name}.npy"
        outputs.seconds[predictor.name] = 0.0
        start = time.perf_counter()
        try:
            for number, step in enumerate(steps, start=1):
                batch = batches.take(step)
                answer = self._children[predictor.child].call(
                    "predict", images=str(batch.images), out=str(target), **predictor.arguments
                )
                outputs.seconds[predictor.name] += answer["seconds"]
                found.append(np.load(target))
                batches.release(pending.pop(0))
                left = describe_remaining(number, len(steps), time.perf_counter() - start)
                self._progress(predictor.name, f"batch {number} of {len(steps)}{left}")
        finally:
            # The other subjects must not wait for one that failed.
            for step in pending:
                batches.release(step)
            target.unlink(missing_ok=True)
            self._progress(predictor.name, "done")
        return found


def _result_or_failure(
    task: Future[list[Array]], name: str, failures: dict[str, str]
) -> list[Array] | None:
    """Return a task's outputs, or None if its runtime failed. Raises other errors."""
    try:
        return task.result()
    except SUBJECT_ERRORS as error:
        failures[name] = str(error)
        return None


def _spread(
    arrays: Sequence[Array], steps: Sequence[int], reader: BatchReader, found: dict[int, Array]
) -> None:
    """Add the outputs of whole batches to `found`, by image."""
    for step, array in zip(steps, arrays, strict=True):
        for index, row in zip(reader.plan.indices(1, step).tolist(), array, strict=True):
            found[index] = row
