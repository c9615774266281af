"""The shards of an evaluation in the processes of an executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.commands.evaluation_runner import ShardSettings, ShardTask
from parity.commands.values import Progress
from parity.errors import ParityError
from parity.evaluation.models import LoadedModels
from parity.evaluation.passes import Outputs
from parity.evaluation.shards import (
    ShardOutputs,
    find_other_versions,
    merge_models,
    merge_outputs,
    plan_shards,
)
from parity.processes.executors.tasks import Executor, Task
from parity.text import describe_remaining
from parity.training.data.batches import BatchPlan, BatchReader
from parity.training.data.images import Images, select_images

Array = NDArray[Any]


class ShardedPasses:
    """Runs passes as `parity.evaluation.passes.Passes` does, in the processes of an executor."""

    def __init__(self, executor: Executor, settings: ShardSettings, progress: Progress) -> None:
        self._executor = executor
        self._settings = settings
        self._progress = progress
        self._models: list[LoadedModels] = []

    @property
    def models(self) -> LoadedModels:
        """The models that every process has loaded so far."""
        return merge_models(self._models)

    def describe_other_versions(self) -> list[str]:
        """Return a note for each package of which the processes have several versions."""
        return [
            f"the shards ran with several versions of {name}: {', '.join(versions)}"
            for name, versions in find_other_versions(self._models).items()
        ]

    def run(self, images: Images, plan: BatchPlan, *, sampled: Collection[int] = ()) -> Outputs:
        """Run all images through every subject, and the passes `sampled` through the reference.

        Raises the `ParityError` of the first shard that cannot be evaluated.
        """
        tasks = [
            ShardTask(self._settings, shard, select_images(images, shard.indices))
            for shard in plan_shards(plan, sampled)
        ]
        found = self._run(tasks, images.describe)
        self._models += [each.models for each in found]
        return merge_outputs(found, plan.images)

    def run_reference(self, reader: BatchReader) -> list[Array]:
        """Return the float64 outputs of all images of a reader."""
        tasks = [
            ShardTask(
                self._settings, shard, select_images(reader.images, shard.indices),
                only_reference=True,
            )
            for shard in plan_shards(reader.plan)
        ]  # fmt: skip
        found = self._run(tasks, reader.images.describe)
        return [np.stack(list(each.outputs.reference.values())) for each in found]

    def _run(
        self, tasks: Iterable[ShardTask], describe: Callable[[int], str]
    ) -> list[ShardOutputs]:
        """Return the outputs of all tasks, in the order of the images."""
        pending = {str(task.shard.first): task for task in tasks}
        found: dict[str, ShardOutputs] = {}
        start = time.perf_counter()
        self._progress("evaluate", f"0 of {len(pending)} shards")
        gpu = self._settings.request.device == "gpu"
        for outcome in self._executor.run(
            Task(key, task, gpu=gpu) for key, task in pending.items()
        ):
            if outcome.problem is not None:
                error = outcome.to_exception()
                raise _add_place(error, pending[outcome.key], outcome.error, describe)
            found[outcome.key] = outcome.value
            left = describe_remaining(len(found), len(pending), time.perf_counter() - start)
            self._progress("evaluate", f"{len(found)} of {len(pending)} shards{left}")
        self._progress("evaluate", "done")
        return [found[key] for key in pending]


def _add_place(
    error: ParityError, task: ShardTask, error_class: str, describe: Callable[[int], str]
) -> ParityError:
    """Return an error with the images of its shard, where it is none of the user's input."""
    if error_class:
        return error
    first, last = task.shard.first, task.shard.first + task.shard.count - 1
    return type(error)(f"the shard of {describe(first)} to {describe(last)}: {error}")
