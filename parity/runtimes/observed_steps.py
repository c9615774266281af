"""The operations that take single training steps to compare, each from a given state.

The run's own trainer takes no part in them: every dtype and precision has a model of its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from parity.errors import TrainingError
from parity.network import weights
from parity.numerics.distance import measure_norms
from parity.numerics.losses import measure_losses
from parity.processes.training_requests import (
    DROPOUT_RECORD,
    BatchResult,
    ObservedStepRequest,
    StepVariation,
    TrainerRequest,
)
from parity.runtimes.floors import Perturbation
from parity.runtimes.run import read_input
from parity.runtimes.train import Trainer, TrainOperations

Array = NDArray[Any]

CHOOSING_KINDS = ("relu", "max_pool")
"""The kinds whose derivative jumps where rounding may choose otherwise."""

Choices = dict[str, Array]
"""By row, where a derivative jumps: the side of each ReLU's kink, booleans (N, C, H, W) or (N, C),
and the place of each max-pool's maximum, its index in the flat plane of the input (N, C, H, W)."""


class ChoiceDistances(NamedTuple):
    """The input of a row, and how far each of its units with another choice is from changing it."""

    inputs: Array
    distances: Array
    """One for each unit whose given choice is not its own: of the input to the kink, or of the two
    maxima from one another."""


class ObservedTrainer(Trainer, Protocol):
    """A trainer that can start from any state and shows the parts of its step."""

    def write_canonical_state(self, values: dict[str, Array], *, number: int) -> None:
        """Set what `read_canonical_state` returned, before step `number`, from 1 on."""

    def read_gradients(self) -> dict[str, Array]:
        """Return the last step's gradients before clipping, `gradient/NAME`."""

    def use_running_sums(self, enabled: bool) -> None:
        """In the next float32 steps, sum over the batch and its positions term by term, or no more.

        Batch-norms are computed with such sums. The gradients of biases are not, but
        `read_bias_sum_errors` returns how far such sums are from them.
        """

    def read_bias_sum_errors(self) -> dict[str, float]:
        """Return how far one running sum in float32 was from the gradient of each bias.

        Relative L2 errors of the last step, by `gradient/NAME`, of the biases that were measured.
        """

    def read_statistics(self) -> dict[str, Array]:
        """Return the moving statistics after the last step, `weight/NAME`."""

    def list_weights(self) -> list[str]:
        """Return the names of the weights that `read_canonical_state` returns, `weight/NAME`."""

    def read_logits(self) -> Array:
        """Return the logits (N, classes) of the last micro-batch."""

    def read_choices(self) -> Choices:
        """Return the choices of the last micro-batch."""

    def read_omitted_dropouts(self) -> Array:
        """Return (n, 2), rate and number of values of the dropouts that the last step left out.

        None for a registered model, whose step applies its dropouts.
        """

    def read_choice_input(self, row: str) -> Array:
        """Return the input that a row with given choices had in the last micro-batch."""

    def read_choice_distances(self) -> dict[str, ChoiceDistances]:
        """Return the distances of each row of which a given choice is not its own."""

    def pass_forward(self, images: Array) -> None:
        """Compute a micro-batch as `step` does, up to the logits."""

    def vary(self, variation: StepVariation, choices: Choices | None = None) -> None:
        """Take the next micro-batches with a variation, and with given choices; None: their own."""

    def describe_variance_updates(self) -> dict[str, Any]:
        """Return how the last step updated each moving variance, by canonical name.

        "keep" is the share of the old value that is kept, "count" the largest number of values of a
        channel in a micro-batch.
        """

    def read_biased_variances(self) -> dict[str, Array]:
        """Return the moving variances as the biased variances of the micro-batches would make them.

        `biased/NAME`, float64; empty where the framework's own are made of the biased ones.
        """


@dataclass(frozen=True)
class ObservedStep:
    """A step of one or more micro-batches: the mean of their losses, and all logits (N, classes).

    `correct` are the right predictions. `choices` are kept where the trainer, which has those of
    the last micro-batch, has not all.
    """

    trainer: ObservedTrainer
    loss: float
    correct: int
    logits: Array
    choices: Choices | None

    def read_choices(self) -> Choices:
        """Return the choices of the step."""
        return self.trainer.read_choices() if self.choices is None else self.choices


@dataclass(frozen=True)
class ReferenceStep:
    """What the last float64 step computed, and its choices; see `ObservedStepRequest`."""

    record: dict[str, Array]
    choices: Choices


def _join_choices(parts: Sequence[Choices]) -> Choices:
    """Return the choices of several micro-batches, without rows that one of them lacks."""
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _take_step(
    trainer: ObservedTrainer,
    request: ObservedStepRequest,
    values: dict[str, Array],
    images: Array,
    choices: Choices | None,
    after: Callable[[ObservedTrainer], None] | None = None,
) -> ObservedStep:
    """Take a step of one or more micro-batches; `after` is called after each.

    One that a loss scale leaves out is taken once more, with half the scale. Raises `TrainingError`
    where no scale makes its gradients finite.
    """
    for _ in range(_SCALES):
        step, is_skipped = _try_step(trainer, request, values, images, choices, after)
        if not is_skipped:
            return step
    raise TrainingError(f"step {request.number}: a gradient is not finite, whatever the loss scale")


_SCALES = 40
"""The number of times that a loss scale is halved, from 2**15 on, before nothing is left of it."""


def _try_step(
    trainer: ObservedTrainer,
    request: ObservedStepRequest,
    values: dict[str, Array],
    images: Array,
    choices: Choices | None,
    after: Callable[[ObservedTrainer], None] | None,
) -> tuple[ObservedStep, bool]:
    """Take a step, and return whether a loss scale left it out."""
    sizes = request.micro_batch_sizes
    labels = _split(read_input(request.step.labels), sizes)
    count = len(labels)
    given = {name: _split(value, sizes) for name, value in (choices or {}).items()}
    results: list[BatchResult] = []
    logits: list[Array] = []
    found: list[Choices] = []
    trainer.write_canonical_state(values, number=request.number)
    for place, part in enumerate(_split(images.astype(request.dtype), sizes)):
        forced = None if choices is None else {n: each[place] for n, each in given.items()}
        trainer.vary(request.variation, forced)
        step = dataclasses.replace(request.step, micro_batch=place, micro_batches=count)
        results.append(trainer.step(part, labels[place], step))
        logits.append(trainer.read_logits())
        if count > 1:
            found.append(trainer.read_choices())
        if after is not None:
            after(trainer)
    taken = ObservedStep(
        trainer,
        math.fsum(result.loss for result in results) / count,
        sum(result.correct for result in results),
        np.concatenate(logits),
        _join_choices(found) if found else None,
    )
    return taken, results[-1].skipped


def _pass_forward(
    trainer: ObservedTrainer,
    request: ObservedStepRequest,
    values: dict[str, Array],
    images: Array,
    choices: Choices,
    after: Callable[[ObservedTrainer], None],
) -> None:
    """Compute the micro-batches of a step up to their logits; `after` is called after each."""
    given = {name: _split(value, request.micro_batch_sizes) for name, value in choices.items()}
    trainer.write_canonical_state(values, number=request.number)
    for place, part in enumerate(_split(images.astype(request.dtype), request.micro_batch_sizes)):
        trainer.vary(request.variation, {n: each[place] for n, each in given.items()})
        trainer.pass_forward(part)
        after(trainer)


def _are_other_choices(given: Choices, own: Choices) -> bool:
    """Return whether a step can take given choices, and has others itself."""
    fits = all(name in own and value.shape == own[name].shape for name, value in given.items())
    return fits and not all(np.array_equal(value, own[name]) for name, value in given.items())


def _split(values: Array, sizes: Sequence[int]) -> list[Array]:
    """Return the parts of an array along its first axis; () is one."""
    return np.split(values, np.cumsum(sizes)[:-1]) if sizes else [values]


class ObservedStepOperations(TrainOperations):
    """Takes single steps of the loaded model, and measures how far rounding moves them."""

    def __init__(self) -> None:
        super().__init__()
        self._observed: dict[tuple[str, str, int], Any] = {}
        self._steps: dict[str, ObservedStep] = {}
        self._reference: ReferenceStep

    def create_observed_trainer(
        self, request: TrainerRequest, dtype: str, device: str
    ) -> ObservedTrainer:
        """Return a trainer of a copy of the loaded model, in float64 or float32, on a device."""
        raise NotImplementedError

    def keep_generators(self) -> AbstractContextManager[None]:
        """While open, steps leave the state of the framework's generators as it is."""
        return nullcontext()

    def observe_step(self, **arguments: Any) -> dict[str, Any]:
        """Take one step from a given state; `arguments` are the fields of `ObservedStepRequest`.

        The file has `loss`, `logits`, `gradient/NAME`, the state after the step as `weight/NAME`
        and `slot/KIND/NAME`, and `biased/NAME`; "statistics" in the answer describes the moving
        variances, "correct" is the metric that the framework reports, "weights" are the names of
        all weights after the step, which a record without state has not.
        """
        request = ObservedStepRequest.from_json(arguments)
        values = _load_start(request)
        images = read_input(request.step.images)
        choices = None
        if request.choices_path is not None:
            choices = safetensors.numpy.load_file(request.choices_path)
        step = self._observe(request, values, images, choices)
        return self._save_record(step, request)

    def _save_record(self, step: ObservedStep, request: ObservedStepRequest) -> dict[str, Any]:
        """Write the record of a step, the last of its trainer, and return its description."""
        record = self._read_record(step, keeps_state=request.keeps_state)
        if request.dtype == "float64" and request.choices_path is None:
            self._reference = ReferenceStep(record, step.read_choices())
        weights.save(Path(request.out_path), record)
        return {
            "statistics": step.trainer.describe_variance_updates(),
            "correct": step.correct,
            "weights": list(self._select_known(dict.fromkeys(step.trainer.list_weights()))),
        }

    def _read_record(self, step: ObservedStep, *, keeps_state: bool) -> dict[str, Array]:
        """Return the parts of a step, the last of its trainer."""
        trainer = step.trainer
        parts = {
            **trainer.read_gradients(),
            **(trainer.read_canonical_state() if keeps_state else trainer.read_statistics()),
            **trainer.read_biased_variances(),
        }
        dropouts = trainer.read_omitted_dropouts()
        own = {DROPOUT_RECORD: dropouts} if len(dropouts) else {}
        loss = np.array(step.loss, np.float64)
        return {**self._select_known(parts), **own, "logits": step.logits, "loss": loss}

    def _observe(
        self,
        request: ObservedStepRequest,
        values: dict[str, Array],
        images: Array,
        choices: Choices | None,
        after: Callable[[ObservedTrainer], None] | None = None,
    ) -> ObservedStep:
        """Take a step as `_take_step` does, with the trainer of the request, and remember it."""
        with self.keep_generators():
            trainer = self._observed_trainer(request)
            observed = _take_step(trainer, request, values, images, choices, after)
        if request.trainer.precision == "float32":
            self._steps[request.dtype] = observed
        return observed

    def _observed_trainer(self, request: ObservedStepRequest, copy: int = 0) -> ObservedTrainer:
        """Return the trainer of a request's steps; those of other copies have other models."""
        # Keras's step takes seconds to compile; it is that of the same model and request.
        own = dataclasses.replace(request.trainer, device=request.device)
        key = (id(self.model), json.dumps(own.to_json(), sort_keys=True))
        place = request.dtype, request.trainer.precision, copy
        if self._observed.get(place, (None, None))[0] != key:
            made = self.create_observed_trainer(own, request.dtype, request.device)
            self._observed[place] = key, made
        return self._observed[place][1]

    def save_choices(self, *, path: str, dtype: str) -> None:
        """Write the choices of the last observed step of a dtype."""
        choices = self._steps[dtype].read_choices()
        safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in choices.items()}, path)

    def measure_step_floors(
        self, *, replicates: int, seed: int, precision: str = "float32", **arguments: Any
    ) -> dict[str, Any]:
        """Measure how far rounding moves the parts of the step that `observe_step` took last.

        `arguments` are that step's, in float64. Each float32 replicate moves the state and the
        images by up to one ulp, and makes the float64 step's choices: a unit on the other side of
        a kink is no rounding. The last one's sums over the batch and its positions are running
        sums. Returns "floors": the relative L2 errors of `samples`, their losses, `gradient/NAME`
        and `weight/NAME`, the statistics; the last replicate's, or the root mean square of the
        others' where that is larger.

        With another `precision` the replicates are in its mixed precision, and what it rounds,
        images and kernels, is moved by one of its ulps. They make their own choices, since so
        coarse a rounding puts many units on the other side; none has running sums.
        """
        request = ObservedStepRequest.from_json(arguments)
        labels = read_input(request.step.labels)
        expected, choices = dict(self._reference.record), self._reference.choices
        expected["samples"] = _measure_samples(expected["logits"], request, labels)
        values = _load_start(request)
        images = read_input(request.step.images)
        trainer = dataclasses.replace(request.trainer, precision=precision)
        request = dataclasses.replace(request, dtype="float32", trainer=trainer)
        is_mixed = precision != "float32"
        # Replicates do not depend on one another. Where each computes with one thread, two of them
        # take half the time; with more, the threads of both would wait for one another.
        copies = 2 if self._threads == 1 and replicates > 1 else 1
        trainers = [self._observed_trainer(request, copy) for copy in range(copies)]

        # The last replicate takes longest, and is first; whichever copy is ready takes the next.
        pending = iter(range(replicates - 1, -1, -1))

        def measure(copy: int) -> dict[int, dict[str, float]]:
            found = {}
            for replicate in pending:
                perturb = Perturbation.of_replicate(replicate, seed=seed, precision=precision)
                own = {name: perturb(value) for name, value in values.items()}
                trainer = trainers[copy]
                trainer.use_running_sums(replicate == replicates - 1 and not is_mixed)
                try:
                    step = _take_step(
                        trainer, request, own, perturb(images), None if is_mixed else choices
                    )
                    found[replicate] = self._measure_errors(step, request, labels, expected)
                finally:
                    trainer.use_running_sums(False)
            return found

        with self.keep_generators(), ThreadPoolExecutor(copies) as pool:
            errors = {
                n: each for part in pool.map(measure, range(copies)) for n, each in part.items()
            }
        last = errors[0] if is_mixed else errors.pop(replicates - 1)
        floors = {}
        for name, error in last.items():
            mean_square = math.fsum(e[name] ** 2 for e in errors.values()) / max(len(errors), 1)
            floors[name] = max(math.sqrt(mean_square), 0.0 if is_mixed else error)
        return {"floors": floors}

    def _measure_errors(
        self,
        step: ObservedStep,
        request: ObservedStepRequest,
        labels: Array,
        expected: Mapping[str, Array],
    ) -> dict[str, float]:
        """Return the relative L2 errors of a replicate; of biases also those of running sums."""
        trainer = step.trainer
        found = self._select_known({**trainer.read_gradients(), **trainer.read_statistics()})
        found["samples"] = _measure_samples(step.logits, request, labels)
        sums = trainer.read_bias_sum_errors()
        return {
            name: max(_measure_error(value, expected[name]), sums.get(name, 0.0))
            for name, value in found.items()
        }

    def prove_choices(self, **arguments: Any) -> dict[str, Any]:
        """Take the float64 step with another step's choices, and say how close to zero they are.

        `arguments` are those of the step that `observe_step` took last, in float64, with choices.
        As `observe_step`; in the answer, "choices" has for each row with another choice the number
        of them, the largest distance to the kink or tie, the largest error there that rounding
        makes, that of a float32 pass with the same choices, and the root mean square of the row.
        Where no choice is another one, or they are those of other layers or another batch, nothing
        is computed or written, and "choices" is empty.
        """
        request = ObservedStepRequest.from_json(arguments)
        assert request.choices_path is not None
        choices = safetensors.numpy.load_file(request.choices_path)
        values = _load_start(request)
        if not _are_other_choices(choices, self._reference.choices):
            return {"choices": {}}
        images = read_input(request.step.images)
        distances: list[dict[str, ChoiceDistances]] = []

        def note_distances(trainer: ObservedTrainer) -> None:
            distances.append(trainer.read_choice_distances())

        reference = self._observe(request, values, images, choices, note_distances)
        description = self._save_record(reference, request)
        found: dict[str, _OtherChoices] = {}
        parts = iter(distances)

        def measure(narrow: ObservedTrainer) -> None:
            for row, (inputs, distance) in next(parts).items():
                errors = narrow.read_choice_input(row) - inputs
                found.setdefault(row, _OtherChoices()).add(inputs, distance, errors)

        narrow = dataclasses.replace(request, dtype="float32")
        with self.keep_generators():
            _pass_forward(self._observed_trainer(narrow), narrow, values, images, choices, measure)
        return {**description, "choices": {r: each.to_json() for r, each in found.items()}}


def _load_start(request: ObservedStepRequest) -> dict[str, Array]:
    """Return the state that a step starts from.

    Where no state after it is kept it has no slots: gradients, losses and statistics are the same
    without them.
    """
    values = safetensors.numpy.load_file(request.state_path)
    if request.keeps_state:
        return values
    return {name: value for name, value in values.items() if not name.startswith("slot/")}


@dataclass
class _OtherChoices:
    """The units of a row with another choice, in the micro-batches that have such units."""

    count: int = 0
    distance: float = 0.0
    error: float = 0.0
    squares: float = 0.0
    values: int = 0

    def add(self, inputs: Array, distance: Array, errors: Array) -> None:
        """Add those of a micro-batch: the row's input, their distances, what rounding makes."""
        self.count += len(distance)
        self.distance = max(self.distance, float(distance.max()))
        self.error = max(self.error, float(np.abs(errors).max()))
        self.squares += float(np.sum(np.square(inputs)))
        self.values += inputs.size

    def to_json(self) -> dict[str, Any]:
        scale = math.sqrt(self.squares / self.values)
        return {
            "count": self.count, "distance": self.distance, "error": self.error, "scale": scale
        }  # fmt: skip


def _measure_error(actual: Array, expected: Array) -> float:
    """Return the relative L2 error; infinite where a value is not finite, or of another shape."""
    if actual.shape != expected.shape:
        return math.inf
    error, norm = measure_norms(actual=actual, expected=expected)
    return error / (norm or 1.0) if math.isfinite(error) else math.inf


def _measure_samples(logits: Array, request: ObservedStepRequest, labels: Array) -> Array:
    return measure_losses(
        logits,
        labels,
        loss=request.trainer.loss,
        label_smoothing=request.trainer.label_smoothing,
    )
