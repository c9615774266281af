"""The operations that train a model, step by step, and keep everything that the next step needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from parity.errors import InputError, TrainingError, WeightError
from parity.network import weights
from parity.network.architectures import from_json
from parity.processes.training_requests import (
    BatchResult,
    Float64StepRequest,
    StepRequest,
    TrainerRequest,
)
from parity.runtimes.run import read_input
from parity.runtimes.weights import WeightOperations

Array = NDArray[Any]


class Trainer(Protocol):
    """A model, its loss and its optimizer, in one framework."""

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        """Train on one batch: images (N, C, H, W) float32, class indices (N,)."""

    def evaluate(self, images: Array, labels: Array) -> BatchResult:
        """Return a batch's loss and accuracy in inference mode."""

    def read_state(self) -> dict[str, Array]:
        """Return copies of weights, statistics, slots, counters and generators by name."""

    def write_state(self, values: dict[str, Array]) -> None:
        """Restore what `read_state` returned. Raises `WeightError` for other names or shapes."""


class ObservedTrainer(Trainer, Protocol):
    """A trainer in float64 that can start from any state and shows the parts of its step."""

    def write_definition(self, values: dict[str, Array], *, number: int) -> None:
        """Set weights and slots, in the definition of the optimizer, before step `number`."""

    def read_definition(self) -> dict[str, Array]:
        """Return `weight/NAME` and `slot/KIND/NAME` in the definition of the optimizer."""

    def read_gradients(self) -> dict[str, Array]:
        """Return the last step's gradients before clipping, `gradient/NAME`."""

    def describe_statistics(self) -> dict[str, Any]:
        """Return how the last step updated each moving variance, by canonical name.

        "keep" is the share of the old value, "count" the number of values of a channel, "unbiased"
        whether the batch's variance is divided by one less.
        """


class TrainOperations(WeightOperations):
    """Trains the loaded model."""

    _trainer: Trainer

    def create_trainer(self, request: TrainerRequest) -> Trainer:
        """Return a trainer of the loaded model, whose optimizer has taken no step."""
        raise NotImplementedError

    def create_float64_trainer(self, request: TrainerRequest) -> ObservedTrainer:
        """Return a trainer of a float64 copy of the loaded model."""
        raise NotImplementedError

    def draw_initial_weights(self, seed: int) -> dict[str, Array]:
        """Build the loaded architecture with the framework's own initialisers; return its weights.

        They are by canonical name, float32.
        """
        raise NotImplementedError

    def limit_threads(self, count: int) -> int:
        """Use `count` threads from now on, and return how many are used then."""
        raise NotImplementedError

    def set_threads(self, *, count: int) -> dict[str, Any]:
        """Compute with `count` threads; must be called before a model is loaded.

        Raises `TrainingError` if the framework did not take the number: sums of another number of
        threads are rounded otherwise.
        """
        actual = self.limit_threads(count)
        if actual != count:
            raise TrainingError(f"{self.name}: set to {count} threads, it uses {actual}")
        return {"threads": actual}

    def save_initial_weights(self, *, spec: dict[str, Any], seed: int, path: str) -> None:
        """Write the weights that the framework's own initialisers draw, in canonical form."""
        self.spec = from_json(spec)
        self.table = self.spec.table()
        values = self.draw_initial_weights(seed)
        weights.check(values, self.table, source=f"the {self.name} initialisers")
        weights.save(Path(path), values)

    def start_training(self, **arguments: Any) -> None:
        """Make a trainer of the loaded model; `arguments` are the fields of `TrainerRequest`."""
        self.pin_flags("float32", "cpu")
        self._trainer = self.create_trainer(TrainerRequest.from_json(arguments))

    def train_step(self, **arguments: Any) -> dict[str, Any]:
        """Train on one batch; `arguments` are the fields of `StepRequest`."""
        request = StepRequest.from_json(arguments)
        images, labels = read_input(request.images), read_input(request.labels)
        self.note_new_weights()
        return self._trainer.step(images, labels, request).to_json()

    def evaluate_batch(self, *, images: str, labels: str) -> dict[str, Any]:
        """Return the loss and accuracy of one batch in inference mode."""
        return self._trainer.evaluate(read_input(images), read_input(labels)).to_json()

    def step_float64(self, **arguments: Any) -> dict[str, Any]:
        """Take one step in float64; `arguments` are the fields of `Float64StepRequest`.

        The file has `loss`, `gradient/NAME`, and the state after the step as `weight/NAME` and
        `slot/KIND/NAME`; "statistics" in the answer describes the moving variances.
        """
        request = Float64StepRequest.from_json(arguments)
        trainer = self.create_float64_trainer(request.trainer)
        trainer.write_definition(safetensors.numpy.load_file(request.state), number=request.number)
        images = read_input(request.step.images).astype(np.float64)
        result = trainer.step(images, read_input(request.step.labels), request.step)
        values = {**trainer.read_gradients(), **trainer.read_definition()}
        values["loss"] = np.array(result.loss, np.float64)
        weights.save(Path(request.out), values)
        return {"statistics": trainer.describe_statistics()}

    def find_non_finite(self) -> dict[str, Any]:
        """Return the first weight or optimizer slot with a NaN or Inf as "tensor", None if none."""
        for name, value in self._trainer.read_state().items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return {"tensor": name}
        return {"tensor": None}

    def save_trained_weights(self, *, path: str, metadata: dict[str, str]) -> None:
        """Write the model's weights in canonical form: equal bytes for equal weights."""
        values = self.read_weights()
        table = self.table.select_side(self.name)
        weights.check(values, table, source=f"the {self.name} model")
        weights.save(Path(path), values, metadata=metadata)

    def save_training_state(self, *, path: str) -> None:
        """Write everything that the next step depends on. Raises `TrainingError` for a NaN."""
        values = self._trainer.read_state()
        for name, value in values.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise TrainingError(f"{self.name}: {name} is not finite; it is not saved")
        weights.save(Path(path), values)

    def load_training_state(self, *, path: str) -> None:
        """Restore what `save_training_state` wrote."""
        try:
            values = safetensors.numpy.load_file(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (safetensors.SafetensorError, ValueError) as error:
            raise WeightError(f"{path}: is not a readable state: {error}") from error
        self.note_new_weights()
        self._trainer.write_state(values)


def require_state(
    name: str, expected: dict[str, tuple[int, ...]], values: dict[str, Array]
) -> None:
    """Raise `WeightError` unless a state has exactly the expected names and shapes."""
    found = {key: value.shape for key, value in values.items()}
    for key in dict.fromkeys((*expected, *found)):
        if expected.get(key) != found.get(key):
            raise WeightError(
                f"{name}: the saved state has {key}: {found.get(key, 'not')}, expected "
                f"{expected.get(key, 'not')}"
            )
