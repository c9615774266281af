"""The runner of an evaluation's shards in the processes of an executor."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from parity import temporary
from parity.commands.evaluated_model import EvaluatedModel, require_working_runtime
from parity.commands.values import no_progress
from parity.errors import ChildError
from parity.evaluation.models import LoadedModels, ModelRequest, load_models
from parity.evaluation.passes import Outputs, Passes
from parity.evaluation.shards import Shard, ShardOutputs
from parity.processes.children import Children
from parity.training.data.batches import BatchPlan, BatchReader
from parity.training.data.images import Images
from parity.training.data.loading import open_loader

FACTORY = "parity.commands.evaluation_runner:EvaluationRunner"
"""The name of the class, by which an executor makes runners."""


@dataclass(frozen=True)
class ShardSettings:
    """What all shards of an evaluation share; `folder` is where its relative paths begin.

    `batch` is the number of images of a pass, `workers` that of the processes which load them.
    """

    request: ModelRequest
    model: EvaluatedModel
    folder: str
    batch: int
    workers: int
    timeout: float


@dataclass(frozen=True)
class ShardTask:
    """A shard and its images; `only_reference` runs nothing but the float64 reference."""

    settings: ShardSettings
    shard: Shard
    images: Images
    only_reference: bool = False


class EvaluationRunner:
    """Evaluates shards; the models stay loaded until a shard has other settings or has failed."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._settings: ShardSettings | None = None
        self._models = LoadedModels()
        self._passes: Passes | None = None

    def run(self, task: ShardTask) -> ShardOutputs:
        """Return the outputs of a shard; raises a `ParityError`."""
        try:
            passes = self._load(task.settings)
            outputs = self._run(passes, task)
        except BaseException:
            self.close()
            raise
        if outputs.failures:
            # A child that has failed may be dead or in an unknown state.
            self.close()
        return ShardOutputs(task.shard, self._models, outputs)

    def _run(self, passes: Passes, task: ShardTask) -> Outputs:
        plan = BatchPlan(task.shard.count, task.settings.batch, shuffle=False)
        preprocessing = task.settings.model.preprocessing(self._models.input_shape)
        reader = BatchReader(task.images, plan, preprocessing)
        if not task.only_reference:
            return passes.run(reader, sampled=task.shard.sampled)
        if self._models.reference is None:
            reasons = "; ".join(self._models.failures.values()) or "none is installed"
            raise ChildError(f"the float64 reference cannot be run here: {reasons}")
        arrays = passes.run_reference(reader)
        rows = (row for array in arrays for row in array)
        return Outputs(reference=dict(enumerate(rows)))

    def _load(self, settings: ShardSettings) -> Passes:
        """Return the passes of the loaded models; load them unless they are those of before."""
        if self._passes is not None and settings == self._settings:
            return self._passes
        self.close()
        if Path(settings.folder).is_dir():
            os.chdir(settings.folder)
        request = settings.request
        folder = self._stack.enter_context(temporary.working_folder())
        children = self._stack.enter_context(
            Children(python=request.python, timeout=settings.timeout, gpu=request.device == "gpu")
        )
        children.start(request.first_children)
        self._models = load_models(request, children, folder, no_progress)
        require_working_runtime(self._models)
        loader = self._stack.enter_context(open_loader(folder, workers=settings.workers))
        self._settings = settings
        self._passes = Passes(self._models, children, loader, folder, no_progress)
        return self._passes

    def close(self) -> None:
        """End the children."""
        self._passes = self._settings = None
        self._stack.close()
