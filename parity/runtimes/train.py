"""The operations that train a model, step by step, and keep everything that the next step needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from parity import files
from parity.errors import InputError, TrainingError, WeightError
from parity.network import weights
from parity.network.architectures import from_json
from parity.network.table import LayerTable
from parity.network.trained_layout import TrainedLayout
from parity.processes.training_requests import (
    BatchResult,
    StepRequest,
    TrainerRequest,
)
from parity.runtimes.devices import require_weights_on
from parity.runtimes.run import read_input
from parity.runtimes.weights import WeightOperations

Array = NDArray[Any]


class Trainer(Protocol):
    """A model, its loss and its optimizer, in one framework."""

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        """Train on one micro-batch: images (N, C, H, W) float32, class indices (N,)."""

    def evaluate(self, images: Array, labels: Array) -> BatchResult:
        """Return a batch's loss and accuracy in inference mode."""

    def read_state(self) -> dict[str, Array]:
        """Return copies of weights, statistics, slots, counters and generators by name."""

    def read_canonical_state(self) -> dict[str, Array]:
        """Return `weight/NAME` and `slot/KIND/NAME`, by canonical name.

        The slots are those of the optimizer's definition in `parity.training.optimizers`.
        """

    def read_weight_devices(self) -> dict[str, str]:
        """Return the device of each weight in the framework's words, by the weight's own name."""

    def write_state(self, values: dict[str, Array]) -> None:
        """Restore what `read_state` returned. Raises `WeightError` for other names or shapes."""


LOSS_SCALE = 2.0**15
"""The factor of the loss, at first, in mixed precision of float16."""

LOSS_SCALE_NAME = "loss_scale/scale"
"""The name of this factor in a saved state."""

ACCUMULATED = "accumulated/"
"""How the names of gradients begin, in a saved state, of a step with micro-batches to come."""

LOSS_SCALE_STEPS = 2000
"""After so many steps with finite gradients it is doubled; after one without it is halved."""

_Value = TypeVar("_Value")


class TrainOperations(WeightOperations):
    """Trains the loaded model."""

    _trainer: Trainer

    def __init__(self) -> None:
        super().__init__()
        self._threads: int | None = None

    def create_trainer(self, request: TrainerRequest) -> Trainer:
        """Return a trainer of the loaded model, whose optimizer has taken no step."""
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
        self._threads = actual
        return {"threads": actual}

    def save_initial_weights(
        self, *, spec: dict[str, Any], seed: int, path: str, table: dict[str, Any] | None = None
    ) -> None:
        """Write the weights that the framework's own initialisers draw, in canonical form.

        `table` replaces the architecture's, for a variant that has others in this framework.
        """
        self.spec = from_json(spec)
        self.table = self.spec.table() if table is None else LayerTable.from_json(table)
        values = self.draw_initial_weights(seed)
        weights.check(values, self.table, source=f"the {self.name} initialisers")
        weights.save(Path(path), values)

    def start_training(self, **arguments: Any) -> None:
        """Make a trainer of the loaded model; `arguments` are the fields of `TrainerRequest`.

        Raises `RequirementError` for a device that is not there, or that the model is not on.
        """
        request = TrainerRequest.from_json(arguments)
        self.require_device(device=request.device)
        self.pin_flags(request.precision, request.device)
        self._trainer = self.create_trainer(request)
        require_weights_on(self.name, request.device, self._trainer.read_weight_devices())

    def use_layout(self, *, layout: dict[str, Any]) -> None:
        """Hold the canonical weights of a `TrainedLayout` from now on; the model has no table.

        Raises `WeightError` for a trained weight without a partner, `UsageError` for a model that
        this framework cannot train.
        """
        found = TrainedLayout.from_json(layout)
        self.bind_layout(found)
        self.layout = found

    def bind_layout(self, layout: TrainedLayout) -> None:
        """Find the canonical weights in the loaded model. Raises as `use_layout`."""
        raise NotImplementedError

    def read_mapped_weights(self) -> dict[str, Array]:
        """Return copies of the weights of the layout by canonical name, in canonical layouts."""
        raise NotImplementedError

    def write_mapped_weights(self, values: dict[str, Array]) -> None:
        """Set what `read_mapped_weights` returned. Raises `WeightError` for what does not fit."""
        raise NotImplementedError

    def load_trained_weights(self, *, path: str) -> None:
        """Set the canonical weights of a file. Raises `WeightError` for what does not fit."""
        if self.layout is None:
            self.load_weights(path=path)
        else:
            self.note_new_weights()
            self.write_mapped_weights(_load_exactly(path, self.layout))

    def train_step(self, **arguments: Any) -> dict[str, Any]:
        """Train on one batch; `arguments` are the fields of `StepRequest`."""
        request = StepRequest.from_json(arguments)
        images, labels = read_input(request.images), read_input(request.labels)
        self.note_new_weights()
        return self._trainer.step(images, labels, request).to_json()

    def evaluate_batch(self, *, images: str, labels: str) -> dict[str, Any]:
        """Return the loss and accuracy of one batch in inference mode."""
        return self._trainer.evaluate(read_input(images), read_input(labels)).to_json()

    def save_canonical_state(self, *, path: str) -> None:
        """Write the state of the training in the definition of its optimizer, in float32."""
        weights.save(Path(path), self._select_known(self._trainer.read_canonical_state()))

    def _select_known(self, values: dict[str, _Value]) -> dict[str, _Value]:
        """Leave out what a layout does not list: constants that are stored as weights."""
        if self.layout is None:
            return values
        known = self.layout.weights
        return {name: value for name, value in values.items() if _weight_of(name) in known}

    def find_non_finite(self) -> dict[str, Any]:
        """Return the first weight or optimizer slot with a NaN or Inf as "tensor", None if none."""
        for name, value in self._trainer.read_state().items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return {"tensor": name}
        return {"tensor": None}

    def save_trained_weights(self, *, path: str, metadata: dict[str, str]) -> None:
        """Write the model's weights in canonical form: equal bytes for equal weights."""
        if self.layout is not None:
            weights.save(Path(path), self.read_mapped_weights(), metadata=metadata)
            return
        values = self.read_weights()
        table = self.table.select_side(self.name)
        weights.check(values, table, source=f"the {self.name} model")
        weights.save(Path(path), values, metadata=metadata)

    def save_model_file(self, *, source: str, path: str) -> None:
        """Write the model, with the canonical weights of `source`, in this framework's format."""
        if self.layout is not None:
            self.load_trained_weights(path=source)
            self.write_model_checkpoint(path=path)
            return
        values = weights.load(Path(source), self.table.select_side(self.name))
        self.write_weights(values)
        with files.atomic_write(path) as temporary:
            self.save_checkpoint(values, temporary)

    def save_training_state(self, *, path: str) -> None:
        """Write everything that the next step depends on. Raises `TrainingError` for a NaN."""
        values = self._trainer.read_state()
        for name, value in values.items():
            # Gradients of a scaled loss that overflow are no failure: their step is left out.
            may_overflow = name.startswith(ACCUMULATED) and LOSS_SCALE_NAME in values
            if value.dtype.kind == "f" and not may_overflow and not np.isfinite(value).all():
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


def _weight_of(name: str) -> str:
    """Return the weight of `weight/NAME`, `gradient/NAME` or `slot/KIND/NAME`."""
    kind, _, rest = name.partition("/")
    return rest.partition("/")[2] if kind == "slot" else rest


def _load_exactly(path: str, layout: TrainedLayout) -> dict[str, Array]:
    """Return the weights of a safetensors file. Raises `WeightError` unless they are a layout's."""
    try:
        values = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise WeightError(f"{path}: cannot be read as a safetensors file: {error}") from error
    for name, shape in layout.weights.items():
        found = values[name].shape if name in values else "none"
        if found != shape:
            raise WeightError(f"{path}: {name}: expected {shape}, found {found}")
    return values


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
