"""The loop of a run, with children that only answer: what each step is asked for."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import safetensors.numpy

from parity.errors import TrainingError
from parity.network import architectures
from parity.training.callbacks import Callbacks
from parity.training.configuration import Configuration
from parity.training.data.augmentation import Augmentation
from parity.training.data.batches import Preprocessing
from parity.training.data.loading import BatchFiles, open_loader
from parity.training.data.sources import open_dataset
from parity.training.loop import Loop, Readers
from parity.training.models import TrainedModel
from parity.training.optimizers import Optimizer
from parity.training.run_folder import RunFolder
from parity.training.run_verification import RunVerifier
from parity.training.schedules import Schedule


class Child:
    """Answers every step with the same loss, and keeps what it was asked for."""

    def __init__(self):
        self.steps = []

    def call(self, operation, **arguments):
        if operation == "start_training":
            self.started = arguments
        if operation == "train_step":
            self.steps.append(arguments)
            return {"loss": 1.0, "correct": 1, "count": 700}
        return {"loss": 1.0, "correct": 1, "count": 100}


class Verifier:
    def __init__(self):
        self.steps = []

    def verify_if_chosen(self, number, epoch, place, batch, rates):
        self.steps.append((number, epoch, place))


def configure(frameworks=("torch",), **options):
    """A run on the digits, with these fields of its configuration."""
    spec = architectures.get("resnet18", classes=10, image_size=(8, 8), channels=1)
    given = {"schedule": Schedule(), "epochs": 1, **options}
    return Configuration(
        model=TrainedModel.of_spec(spec, frameworks), data=open_dataset("digits"),
        preprocessing=Preprocessing((8, 8), 1), optimizer=Optimizer("adam", 1e-3),
        callbacks=Callbacks(), augmentation=Augmentation(), seed=0, validation_share=0.2,
        drop_last=False, loss="cross-entropy", label_smoothing=0.0, initial_weights="default",
        frameworks=frameworks, threads=1, **given,
    )  # fmt: skip


@contextmanager
def open_loop(tmp_path, child, verifier, **options):
    """A loop of PyTorch's alone, on the digits, with these fields of its configuration."""
    configuration = configure(**options)
    folder = RunFolder(tmp_path / "run")
    folder.create(("torch",), configuration.to_json())
    with open_loader(tmp_path, workers=0) as loader, ThreadPoolExecutor(1) as pool:
        yield Loop(
            configuration, {"torch": child}, folder, loader, pool, save_seconds=math.inf,
            progress=lambda name, text: None, verifier=verifier,
        )  # fmt: skip


def test_the_micro_batches_of_a_step_have_its_number_and_rate(tmp_path):
    """Five batches in steps of two: the last step has one. Resumed within the second step."""
    child, verifier = Child(), Verifier()
    options = {"schedule": Schedule("constant", warmup_steps=3), "accumulate": 2}
    device = {"device": "gpu", "precision": "bfloat16"}
    with open_loop(tmp_path, child, verifier, batch=300, **options, **device) as loop:
        progress = loop.prepare(None)
        loop._train_epoch(progress)
        whole = list(child.steps)
        loop._train_epoch(dataclasses.replace(progress, batch=3))
    assert [(s["micro_batch"], s["micro_batches"]) for s in whole] == [
        (0, 2), (1, 2), (0, 2), (1, 2), (0, 1)
    ]  # fmt: skip
    assert [s["learning_rate"] for s in whole] == pytest.approx(
        [1e-3 * n / 3 for n in (1, 1, 2, 2, 3)]
    )
    epsilons = [1e-7 / math.sqrt(1 - 0.999**step) for step in (1, 1, 2, 2, 3)]
    assert [s["optimizer_epsilon"] for s in whole] == pytest.approx(epsilons, rel=1e-12)
    # A step is compared before its first micro-batch.
    assert verifier.steps == [(1, 1, 0), (2, 1, 1), (3, 1, 2), (3, 1, 2)]
    resumed = child.steps[len(whole) :]
    assert [(s["micro_batch"], s["micro_batches"]) for s in resumed] == [(1, 2), (0, 1)]
    request = child.started
    assert (request["accumulate"], request["device"]) == (2, "gpu")
    assert request["precision"] == "bfloat16"


@pytest.mark.parametrize("initial_epoch", [0, 2])
def test_steps_are_counted_from_where_the_optimizer_starts_anew(initial_epoch, tmp_path):
    """Adam's ε in PyTorch depends on the step, as does its bias correction."""
    child, verifier = Child(), Verifier()
    options = {"epochs": initial_epoch + 1, "initial_epoch": initial_epoch}
    with open_loop(tmp_path, child, verifier, batch=700, **options) as loop:
        loop._train_epoch(loop.prepare(None))
    epsilons = [1e-7 / math.sqrt(1 - 0.999**step) for step in (1, 2, 3)]
    assert [step["optimizer_epsilon"] for step in child.steps] == pytest.approx(epsilons, rel=1e-12)
    assert verifier.steps == [(step, initial_epoch + 1, step - 1) for step in (1, 2, 3)]


class Observer:
    """Keeps what it is asked to observe, and answers nothing that a step could be compared by."""

    def __init__(self):
        self.observed = []

    def call(self, operation, **arguments):
        if operation == "observe_step":
            self.observed.append(arguments)
            raise TrainingError("observed")
        safetensors.numpy.save_file({}, arguments["path"])
        return {}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_subjects_steps_are_compared_on_the_device_of_the_run(device, tmp_path):
    """The reference's are on the CPU, as the note of such a run says."""
    configuration = configure(("keras", "torch"), batch=8, device=device)
    children = {"keras": Observer(), "torch": Observer()}
    reader = Readers.of(configuration).training
    paths = BatchFiles(tmp_path / "images.npy", tmp_path / "labels.npy", 8, "")
    batch = reader.read(1, 0)
    np.save(paths.images, batch.images)
    np.save(paths.labels, batch.labels)
    with ThreadPoolExecutor(2) as pool:
        verifier = RunVerifier(
            configuration, children, pool, reader, folder=tmp_path,
            results=tmp_path / "verification.json", progress=lambda name, text: None,
        )  # fmt: skip
        with pytest.raises(TrainingError, match="observed"):
            verifier.verify_if_chosen(1, 1, 0, paths, (1e-3, 1e-3, 1e-3))
    devices = {name: [r["device"] for r in child.observed] for name, child in children.items()}
    assert devices == {"keras": [device], "torch": ["cpu"]}
