"""A runner of shards that computes with NumPy, for the tests of sharded evaluations."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import numpy as np

from parity.commands.evaluation_runner import ShardTask
from parity.evaluation.models import LoadedModels, Predictor
from parity.evaluation.passes import Outputs, Passes
from parity.evaluation.shards import ShardOutputs
from parity.training.data.batches import BatchPlan, BatchReader, Preprocessing
from parity.training.data.loading import open_loader
from tests.evaluation.fake_children import FakeChildren

FACTORY = "tests.evaluation.runner_of_tests:Runner"


def swap_some(data: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Turn the outputs of bright images round, so that labels change."""
    sign = np.where(data.mean((1, 2, 3)) > 0.5, -1, 1).astype(outputs.dtype)
    return outputs * sign[:, None]


def create_passes(folder: Path, loader, *, reference: bool = True) -> tuple[LoadedModels, Passes]:
    models = LoadedModels({name: Predictor(name, name) for name in ("one", "two")})
    models.versions = {"numpy": "1"}
    if reference:
        models.reference = Predictor("reference", "one", {"precision": "float64"})
    children = FakeChildren({"two": swap_some})
    return models, Passes(models, children, loader, folder, lambda name, text: None)


class Runner:
    """Dies once in the shard whose first image a file `die-N` of the settings' folder names."""

    def run(self, task: ShardTask) -> ShardOutputs:
        fatal = Path(task.settings.folder, f"die-{task.shard.first}")
        if fatal.exists():
            fatal.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        plan = BatchPlan(task.shard.count, task.settings.batch, shuffle=False)
        reader = BatchReader(task.images, plan, Preprocessing((6, 6), 1))
        with tempfile.TemporaryDirectory() as name, open_loader(Path(name), workers=0) as loader:
            models, passes = create_passes(Path(name), loader)
            if task.only_reference:
                rows = np.concatenate(passes.run_reference(reader))
                outputs = Outputs(reference=dict(enumerate(rows)))
            else:
                outputs = passes.run(reader, sampled=task.shard.sampled)
        return ShardOutputs(task.shard, models, outputs)

    def close(self) -> None:
        pass
