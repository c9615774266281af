"""The loop of a training run: it drives every framework's own step, batch by batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity import files
from parity.errors import TrainingError
from parity.processes import registry
from parity.processes.child import Child
from parity.processes.training_requests import BatchResult, StepRequest
from parity.text import describe_remaining
from parity.training import history, tensorboard
from parity.training.callbacks import EpochMetrics
from parity.training.configuration import Configuration
from parity.training.data.batches import BatchPlan, BatchReader
from parity.training.data.loading import BatchFiles, BatchLoader
from parity.training.optimizers import trainer_request
from parity.training.run_folder import FrameworkProgress, RunFolder, RunProgress
from parity.training.run_verification import RunVerifier
from parity.training.verification import REFERENCE

Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class Readers:
    """The batches of a run: shuffled and augmented for training, as they are for validation."""

    training: BatchReader
    validation: BatchReader

    @classmethod
    def of(cls, configuration: Configuration) -> Readers:
        """Return the readers of a run."""
        data, batch = configuration.data, configuration.batch
        training = BatchPlan(
            len(data.training.labels),
            batch,
            seed=configuration.seed,
            drop_last=configuration.drop_last,
            accumulate=configuration.accumulate,
        )
        validation = BatchPlan(len(data.validation.labels), batch, shuffle=False)
        return cls(
            BatchReader(
                data.training, training, configuration.preprocessing, configuration.augmentation
            ),
            BatchReader(data.validation, validation, configuration.preprocessing),
        )


class Loop:
    """One run: its children, whose models hold the initial weights, and its folder.

    `save_seconds` is the time after which a state is saved within an epoch; one is saved after
    every epoch. How often changes no figure. `verifier` compares steps before they are taken.
    `noise` is the seed of the rounding noise and of the permutations that every step has.
    """

    def __init__(
        self,
        configuration: Configuration,
        children: Mapping[str, Child],
        folder: RunFolder,
        loader: BatchLoader,
        pool: ThreadPoolExecutor,
        *,
        save_seconds: float,
        progress: Progress,
        verifier: RunVerifier | None = None,
        noise: int | None = None,
    ) -> None:
        self._configuration = configuration
        self._children = children
        self._folder = folder
        self._loader = loader
        self._pool = pool
        self._save_seconds = save_seconds
        self._show = progress
        self._verifier = verifier
        self._noise = noise
        self._readers = Readers.of(configuration)
        self._table = configuration.table
        self._plan = self._readers.training.plan
        self._steps = self._plan.updates
        self._last_save = time.monotonic()
        self._started = time.monotonic()
        self._first_batch = 0

    def prepare(self, progress: RunProgress | None) -> RunProgress:
        """Create the trainers, restore a state if there is one, and return the progress."""
        for name, child in self._children.items():
            request = trainer_request(
                self._configuration.optimizer,
                name,
                self._table,
                loss=self._configuration.loss,
                label_smoothing=self._configuration.label_smoothing,
                seed=self._configuration.seed,
                accumulate=self._configuration.accumulate,
                device=self._configuration.device,
                precision=self._configuration.precision,
            )
            child.call("start_training", **request.to_json())
        if progress is None:
            return RunProgress(
                {name: FrameworkProgress() for name in self._children},
                epoch=self._configuration.initial_epoch + 1,
            )
        for name, child in self._children.items():
            child.call("load_training_state", path=str(self._folder.state(name, progress)))
        return progress

    def run(self, progress: RunProgress) -> RunProgress:
        """Train until the last epoch, or until every framework has stopped early."""
        self._first_batch = self._batch_of_run(progress)
        while progress.epoch <= self._configuration.epochs and _active(progress):
            progress = self._train_epoch(progress)
            progress = self._end_epoch(progress)
        self._finish(progress)
        return progress

    # Training ------------------------------------------------------------------------------------

    def _train_epoch(self, progress: RunProgress) -> RunProgress:
        batches = self._loader.iterate(self._readers.training, progress.epoch, start=progress.batch)
        for batch in batches:
            progress = self._train_batch(progress, batch)
            self._show_rate(progress)
            if time.monotonic() - self._last_save >= self._save_seconds:
                self._save(progress)
        return progress

    def _train_batch(self, progress: RunProgress, batch: BatchFiles) -> RunProgress:
        """Train on one batch, a micro-batch of a step."""
        step = self._step_of_run(progress)
        place, micro_batch = divmod(progress.batch, self._configuration.accumulate)
        all_active = len(_active(progress)) == len(progress.frameworks)
        if self._verifier is not None and all_active and micro_batch == 0:
            reference = progress.frameworks[REFERENCE]
            rates = (
                reference.learning_rate,
                *(self._learning_rate(n, reference) for n in (step, step + 1)),
            )
            number = self._step_of_optimizer(progress, reference)
            self._verifier.verify_if_chosen(number, progress.epoch, place, batch, rates)
        requests = {
            name: StepRequest(
                str(batch.images),
                str(batch.labels),
                self._learning_rate(step, progress.frameworks[name]),
                self._configuration.optimizer.step_epsilon(
                    name, self._step_of_optimizer(progress, progress.frameworks[name])
                ),
                None
                if self._noise is None
                else self._noise * 1_000_003 + self._batch_of_run(progress),
                micro_batch,
                len(self._plan.group(place)),
            )
            for name in _active(progress)
        }
        answers = self._call_all(
            {name: ("train_step", request.to_json()) for name, request in requests.items()}
        )
        for name, (answer, seconds) in answers.items():
            result = BatchResult.from_json(answer)
            if not math.isfinite(result.loss):
                self._fail(name, progress, result.loss)
            before = progress.frameworks[name]
            progress = progress.with_framework(
                name,
                replace(
                    before,
                    loss_sum=before.loss_sum + result.loss * result.count,
                    correct=before.correct + result.correct,
                    count=before.count + result.count,
                    learning_rate=requests[name].learning_rate,
                    seconds=before.seconds + seconds,
                    images=before.images + result.count,
                    skipped=before.skipped + result.skipped,
                ),
            )
        return replace(progress, batch=progress.batch + 1)

    def _learning_rate(self, step: int, progress: FrameworkProgress) -> float:
        configuration = self._configuration
        rate = configuration.schedule.rate_at(
            step,
            base=configuration.optimizer.learning_rate,
            steps_per_epoch=self._steps,
            epochs=configuration.epochs,
        )
        return rate * progress.callbacks.reduction

    def _step_of_run(self, progress: RunProgress) -> int:
        """Return the number of the next batch's step, from 0 on."""
        place = progress.batch // self._configuration.accumulate
        return (progress.epoch - 1) * self._steps + place

    def _batch_of_run(self, progress: RunProgress) -> int:
        """Return the number of the next batch, from 0 on."""
        return (progress.epoch - 1) * self._plan.steps + progress.batch

    def _step_of_optimizer(self, progress: RunProgress, framework: FrameworkProgress) -> int:
        """Return the number of a framework's next step, from 1 on, since its optimizer began."""
        first = self._configuration.initial_epoch * self._steps
        return self._step_of_run(progress) - first - framework.skipped + 1

    def _call_all(
        self, requests: Mapping[str, tuple[str, Mapping[str, Any]]]
    ) -> dict[str, tuple[dict[str, Any], float]]:
        """Send each framework's child a request, all at once; return answers and seconds."""

        def call(name: str) -> tuple[dict[str, Any], float]:
            operation, arguments = requests[name]
            started = time.perf_counter()
            answer = self._children[name].call(operation, **arguments)
            return answer, time.perf_counter() - started

        # A list first, so that all are sent before one is waited for.
        pending = [(name, self._pool.submit(call, name)) for name in requests]
        return {name: future.result() for name, future in pending}

    def _fail(self, name: str, progress: RunProgress, loss: float) -> None:
        """Raise `TrainingError` for a loss that is not finite; the last saved state stays."""
        tensor = self._children[name].call("find_non_finite")["tensor"]
        where = f"the first tensor is {tensor}" if tensor else "every weight is finite"
        saved = self._folder.read_progress()
        kept = (
            "no state was saved before"
            if saved is None
            else f"the state before {self._name_batch(saved)} is kept"
        )
        raise TrainingError(
            f"{registry.label(name)}: the loss is {loss} at {self._name_batch(progress)}; {where}; "
            f"{kept} in {self._folder.path}"
        )

    def _name_batch(self, progress: RunProgress) -> str:
        """Return the words for the next batch."""
        place, micro_batch = divmod(progress.batch, self._configuration.accumulate)
        which = f"micro-batch {micro_batch + 1} of " if self._configuration.accumulate > 1 else ""
        return f"{which}step {place + 1} of epoch {progress.epoch}"

    # After an epoch ------------------------------------------------------------------------------

    def _end_epoch(self, progress: RunProgress) -> RunProgress:
        active = _active(progress)
        validation = self._evaluate(active)
        for name in active:
            progress = progress.with_framework(
                name, self._end_framework_epoch(name, progress, validation[name])
            )
        progress = replace(progress, epoch=progress.epoch + 1, batch=0)
        self._write_history(progress)
        self._save(progress)
        return progress

    def _evaluate(self, active: Iterable[str]) -> dict[str, BatchResult]:
        """Return the mean loss and the right predictions on the validation images."""
        sums = dict.fromkeys(active, (0.0, 0, 0))
        for batch in self._loader.iterate(self._readers.validation, 1):
            arguments = {"images": str(batch.images), "labels": str(batch.labels)}
            answers = self._call_all(dict.fromkeys(sums, ("evaluate_batch", arguments)))
            for name, (answer, _) in answers.items():
                result = BatchResult.from_json(answer)
                loss, correct, count = sums[name]
                sums[name] = (
                    loss + result.loss * result.count,
                    correct + result.correct,
                    count + result.count,
                )
        return {
            name: BatchResult(loss / count, correct, count)
            for name, (loss, correct, count) in sums.items()
        }

    def _end_framework_epoch(
        self, name: str, progress: RunProgress, validation: BatchResult
    ) -> FrameworkProgress:
        before = progress.frameworks[name]
        if not math.isfinite(validation.loss):
            raise TrainingError(
                f"{registry.label(name)}: the validation loss is {validation.loss} after epoch "
                f"{progress.epoch}; the last saved state is kept in {self._folder.path}"
            )
        metrics = EpochMetrics(
            epoch=progress.epoch,
            learning_rate=before.learning_rate,
            loss=before.loss_sum / before.count,
            accuracy=before.correct / before.count,
            validation_loss=validation.loss,
            validation_accuracy=validation.correct / validation.count,
        )
        callbacks = self._configuration.callbacks.after_epoch(before.callbacks, metrics)
        self._save_checkpoint(name, "last")
        if callbacks.best_accuracy_epoch == progress.epoch:
            self._save_checkpoint(name, "best")
        if self._restores and callbacks.lowest_loss_epoch == progress.epoch:
            self._save_checkpoint(name, "lowest-loss")
        return replace(
            before,
            loss_sum=0.0,
            correct=0,
            count=0,
            callbacks=callbacks,
            epochs=(*before.epochs, metrics),
            events=self._log(name, before.events, metrics),
        )

    @property
    def _restores(self) -> bool:
        return self._configuration.callbacks.early_stopping is not None

    def _log(self, name: str, length: int, metrics: EpochMetrics) -> int:
        if not tensorboard.is_installed():
            return 0
        values = self._configuration.model.load_weights(self._folder.checkpoint(name, "last"))
        return tensorboard.append_epoch(self._folder.events(name), length, metrics, values)

    def _save_checkpoint(self, name: str, checkpoint: str) -> None:
        self._children[name].call(
            "save_trained_weights",
            path=str(self._folder.checkpoint(name, checkpoint)),
            metadata={
                **self._configuration.description.to_metadata(),
                **self._configuration.model.to_metadata(),
            },
        )

    def _save(self, progress: RunProgress) -> None:
        """Save a state. Raises `OutputError`; the state before then stays."""
        for name, child in self._children.items():
            child.call("save_training_state", path=str(self._folder.state(name, progress)))
        self._folder.commit(progress)
        self._last_save = time.monotonic()

    def _write_history(self, progress: RunProgress) -> None:
        epochs = {name: each.epochs for name, each in progress.frameworks.items()}
        model = self._configuration.model.name
        history.write_json(self._folder.history, model, epochs)
        history.write_csv(self._folder.metrics, epochs)
        history.write_picture(self._folder.picture, model, epochs)

    def _finish(self, progress: RunProgress) -> None:
        """Make the weights of the lowest validation loss the last ones, as Keras restores them."""
        if not self._restores:
            return
        for name in progress.frameworks:
            _copy_checkpoint(
                self._folder.checkpoint(name, "lowest-loss"), self._folder.checkpoint(name, "last")
            )

    def _show_rate(self, progress: RunProgress) -> None:
        done = self._batch_of_run(progress)
        total = self._configuration.epochs * self._plan.steps
        left = describe_remaining(
            done - self._first_batch, total - self._first_batch, time.monotonic() - self._started
        )
        step = -(-progress.batch // self._configuration.accumulate)
        for name in _active(progress):
            each = progress.frameworks[name]
            rate = each.images / each.seconds if each.seconds else 0.0
            self._show(
                name,
                f"epoch {progress.epoch}/{self._configuration.epochs}, step {step}/"
                f"{self._steps}, loss {each.loss_sum / each.count:.4f}, {rate:.0f} images/s{left}",
            )


def _copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint completely or not at all."""
    with files.atomic_write(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def _active(progress: RunProgress) -> tuple[str, ...]:
    """Return the frameworks that have not stopped early."""
    return tuple(
        name for name, each in progress.frameworks.items() if not each.callbacks.stopped_epoch
    )
