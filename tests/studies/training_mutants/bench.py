"""Runs training steps of the study's models in this process: the reference, and subjects of it."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.explain.training import explain_step
from parity.network import architectures
from parity.network import weights as weight_files
from parity.network.table import LayerTable
from parity.processes.training_requests import ObservedStepRequest
from parity.training import initialization
from parity.training.data.augmentation import Augmentation
from parity.training.data.batches import Batch, BatchPlan, BatchReader, Preprocessing
from parity.training.data.sources import open_dataset
from parity.training.optimizers import Optimizer, trainer_request
from parity.training.steps import StepRecord
from parity.training.verification import (
    REFERENCE,
    BatchSource,
    StepInput,
    StepVerifier,
    VerifiedStep,
)
from tests.studies.training_mutants import tables

BATCH = 16

OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgd": Optimizer("sgd", 0.05),
    "momentum": Optimizer("sgd", 0.05, momentum=0.9),
    "nesterov": Optimizer("sgd", 0.05, momentum=0.9, nesterov=True),
    "l2": Optimizer("sgd", 0.05, momentum=0.9, l2=1e-3),
    "adam": Optimizer("adam", 1e-3),
    "adamw": Optimizer("adamw", 1e-3, weight_decay=0.01),
    "rmsprop": Optimizer("rmsprop", 1e-3, momentum=0.9),
    "clip": Optimizer("sgd", 0.05, momentum=0.9, clip_norm=0.5),
    "clip-value": Optimizer("adam", 1e-3, clip_value=0.01),
}

Rates = Callable[[int], float]
"""The factor of the learning rate in a step, from 1 on."""


def constant(step: int) -> float:
    return 1.0


def falling(step: int) -> float:
    """A rate that is another in every step."""
    return 0.8 ** (step - 1)


@dataclass(frozen=True)
class Task:
    """What is trained, on what: small enough that a step takes milliseconds."""

    model: str
    optimizer: Optimizer
    seed: int = 0
    rates: Rates = constant
    label_smoothing: float = 0.0
    augmentation: Augmentation | None = None
    steps_per_epoch: int | None = None
    """Cut the data to this many batches, the last of which is smaller."""
    accumulate: int = 1
    precision: str = "float32"


class Bench:
    """The models of one process; frameworks are loaded once for each model."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="parity-")
        self.path = Path(self._folder.name)
        self._runtimes: dict[tuple[str, str], Any] = {}
        self._data = open_dataset("digits")

    def table(self, model: str) -> LayerTable:
        if model in tables.TABLES:
            return tables.TABLES[model]
        return self._spec(model).table()

    def _spec(self, model: str) -> Any:
        return architectures.get(model, classes=10, image_size=(32, 32), channels=1)

    def draw(self, model: str, seed: int) -> dict[str, Any]:
        """Return seeded weights, in the manner of He, with biases that are not zero."""
        if model not in tables.TABLES:
            return initialization.draw(self._spec(model), "he-normal", seed=seed)
        random = np.random.default_rng([7, seed])
        found = {}
        for _, weight in tables.TABLES[model].weights():
            normal = random.standard_normal(weight.shape)
            if weight.role == "kernel":
                value = normal * np.sqrt(2 / tables.fan_in(weight))
            elif weight.role in ("gamma", "variance"):
                value = 1 + 0.1 * np.abs(normal)
            else:
                value = 0.1 * normal
            found[weight.name] = value.astype(np.float32)
        return found

    def runtime(self, side: str, model: str) -> Any:
        """Return a runtime with the model; "torch-subject" is a second one of PyTorch."""
        if (side, model) not in self._runtimes:
            if side == "keras":
                from parity.runtimes.keras.runtime import Runtime
            else:
                from parity.runtimes.torch.runtime import Runtime
            runtime = Runtime()
            if model in tables.TABLES:
                module = "keras_models" if side == "keras" else "torch_models"
                runtime.load(callable_path=f"tests.studies.training_mutants.{module}:{model}")
                runtime.table = tables.TABLES[model]
            else:
                runtime.load(spec=self._spec(model).to_json())
            runtime.write_weights(self.draw(model, 0))
            self._runtimes[side, model] = runtime
        return self._runtimes[side, model]

    def reader(self, task: Task) -> BatchReader:
        size = tables.SIZES.get(task.model, 32)
        count = len(self._data.training.labels)
        if task.steps_per_epoch is not None:
            count = task.steps_per_epoch * BATCH - 5
        return BatchReader(
            self._data.training,
            BatchPlan(count, BATCH, seed=task.seed, accumulate=task.accumulate),
            Preprocessing((size, size), 1),
            task.augmentation,
        )

    def run(
        self,
        task: Task,
        steps: int,
        *,
        subject: str = "keras",
        change: Callable[[ObservedStepRequest, StepContext], ObservedStepRequest] | None = None,
        patch: Callable[[Any], None] | None = None,
        prepare: Callable[[Any], None] | None = None,
        numerics: bool = False,
        stop: bool = True,
    ) -> list[VerifiedStep]:
        """Compare the first `steps` steps, until one differs if `stop`.

        `change` alters the subject's request, `prepare` its model and `patch` its trainer, which
        are then made anew.
        """
        reader = self.reader(task)
        other = self.runtime(subject, task.model)
        sides = {REFERENCE: self.runtime(REFERENCE, task.model), subject: other}
        context: list[StepContext] = []
        framework = "keras" if subject == "keras" else "torch"

        def call(side: str, operation: str, /, **arguments: Any) -> Mapping[str, Any]:
            if side == subject and operation == "observe_step" and change is not None:
                request = ObservedStepRequest.from_json(arguments)
                arguments = change(request, context[-1]).to_json()
            answer: Mapping[str, Any] = getattr(sides[side], operation)(**arguments)
            return answer

        verifier = StepVerifier(
            self.table(task.model),
            task.optimizer,
            call,
            self.path,
            label_smoothing=task.label_smoothing,
            accumulate=task.accumulate,
            precision=task.precision,
            subject=subject,
            framework=framework,
            numerics=numerics,
            replicates=3,
            explain=explain_step,
            keeps_state=True,
        )
        state = self.path / "state.safetensors"
        weights = self.draw(task.model, task.seed)
        weight_files.save(state, {f"weight/{name}": value for name, value in weights.items()})
        found = []
        with _patched(other, patch, prepare):
            for number in range(1, steps + 1):
                epoch, place = divmod(number - 1, reader.plan.updates)
                batch = reader.read_group(epoch + 1, place)
                base = task.optimizer.learning_rate
                before, rate, after = (
                    base * task.rates(max(n, 1)) for n in (number - 1, number, number + 1)
                )
                context.append(
                    StepContext(
                        task,
                        framework,
                        self.table(task.model),
                        number,
                        epoch + 1,
                        place,
                        rate,
                        before,
                        after,
                        batch,
                        reader,
                        self.path,
                    )
                )  # fmt: skip
                given = StepInput(
                    number,
                    rate,
                    batch.images,
                    batch.labels,
                    state,
                    rate_before=before,
                    rate_after=after,
                    plateau_factor=0.5,
                    source=BatchSource(reader, epoch + 1, place),
                    micro_batch_sizes=batch.micro_batch_sizes,
                )
                found.append(verifier.verify(given))
                if stop and not found[-1].agrees:
                    break
                write_next_state(verifier.reference_record, state)
        return found


def write_next_state(record: StepRecord, path: Path) -> None:
    """Write the state after a step of the reference, to start the next one from, as float32."""
    weight_files.save(
        path,
        {
            name: np.asarray(value, np.float32)
            for name, value in record.values.items()
            if name.startswith(("weight/", "slot/"))
        },
    )


@dataclass(frozen=True)
class StepContext:
    """What a fault may use instead: the place in the run, rates, batches, another optimizer."""

    task: Task
    framework: str
    table: LayerTable
    number: int
    epoch: int
    place: int
    rate: float
    rate_before: float
    rate_after: float
    batch: Batch
    reader: BatchReader
    folder: Path

    def with_trainer(
        self, request: ObservedStepRequest, optimizer: Optimizer, **options: Any
    ) -> ObservedStepRequest:
        """Return the request with another optimizer or loss."""
        own = {"label_smoothing": self.task.label_smoothing, "accumulate": self.task.accumulate}
        options = {**own, **options}
        trainer = trainer_request(optimizer, self.framework, self.table, **options)
        epsilon = optimizer.step_epsilon(self.framework, self.number)
        step = dataclasses.replace(request.step, optimizer_epsilon=epsilon)
        return dataclasses.replace(request, trainer=trainer, step=step)

    def with_batch(self, request: ObservedStepRequest, batch: Batch) -> ObservedStepRequest:
        """Return the request with another batch."""
        images, labels = self.folder / "images-fault.npy", self.folder / "labels-fault.npy"
        np.save(images, batch.images)
        np.save(labels, batch.labels)
        step = dataclasses.replace(request.step, images=str(images), labels=str(labels))
        return dataclasses.replace(request, step=step, micro_batch_sizes=batch.micro_batch_sizes)


@contextlib.contextmanager
def _patched(
    runtime: Any, patch: Callable[[Any], None] | None, prepare: Callable[[Any], None] | None
) -> Iterator[None]:
    """While open, new models and trainers of the runtime are patched; no other ones are used."""
    if patch is None and prepare is None:
        yield
        return
    create, build, kept = runtime.create_observed_trainer, runtime.build_replica, runtime._observed

    def create_and_patch(request: Any, dtype: str, device: str) -> Any:
        trainer = create(request, dtype, device)
        if patch is not None:
            patch(trainer)
        return trainer

    def build_and_prepare(dtype: str, **options: Any) -> Any:
        model, set_weights = build(dtype, **options)
        if prepare is not None:
            prepare(model)
        return model, set_weights

    runtime.create_observed_trainer, runtime._observed = create_and_patch, {}
    runtime.build_replica = build_and_prepare
    try:
        yield
    finally:
        runtime._observed = kept
        del runtime.create_observed_trainer, runtime.build_replica
