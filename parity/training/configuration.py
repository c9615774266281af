"""The configuration of a training run: everything that its result depends on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parity.errors import UsageError
from parity.network.table import LayerTable
from parity.numerics.losses import LOSSES
from parity.text import abbreviate, quote, suggest
from parity.training.callbacks import Callbacks
from parity.training.data.augmentation import Augmentation
from parity.training.data.batches import Preprocessing
from parity.training.data.dataset import Dataset
from parity.training.description import TrainedDescription
from parity.training.models import TrainedModel
from parity.training.optimizers import Optimizer
from parity.training.schedules import Schedule

SCHEMA = "parity.training/1"

DEVICES = ("cpu", "gpu")

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Configuration:
    """What is trained, on what, how. Raises `UsageError` for values that are invalid.

    `initial_weights` is a scheme of `initialization`, or the hash of the weights that were given.
    `threads` are those of each framework. `initial_epoch` are the epochs that were trained before
    with the initial weights: the first of this run has the next number. A step has `accumulate`
    batches, its micro-batches. `device` is "cpu" or "gpu"; a `precision` that is not "float32" is
    mixed.
    """

    model: TrainedModel
    data: Dataset
    preprocessing: Preprocessing
    optimizer: Optimizer
    schedule: Schedule
    callbacks: Callbacks
    augmentation: Augmentation
    epochs: int
    batch: int
    seed: int
    validation_share: float
    drop_last: bool
    loss: str
    label_smoothing: float
    initial_weights: str
    frameworks: tuple[str, ...]
    threads: int
    initial_epoch: int = 0
    accumulate: int = 1
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"--epochs: must be a whole number above 0, found {self.epochs}")
        if not 0 <= self.initial_epoch < self.epochs:
            raise UsageError(
                f"--initial-epoch: must be 0 or more and less than --epochs {self.epochs}, found "
                f"{self.initial_epoch}"
            )
        if self.batch < 1:
            raise UsageError(f"--batch: must be a whole number above 0, found {self.batch}")
        if self.accumulate < 1:
            raise UsageError(
                f"--accumulate: must be a whole number above 0, found {self.accumulate}"
            )
        if self.threads < 1:
            raise UsageError(f"--threads: must be a whole number above 0, found {self.threads}")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                "--label-smoothing: must be 0 or more and less than 1, found "
                f"{self.label_smoothing!r}"
            )
        if self.loss not in LOSSES:
            hint = suggest(self.loss, LOSSES, otherwise=f"known: {', '.join(LOSSES)}")
            raise UsageError(f"unknown loss {quote(self.loss)}{hint}")
        for option, value, known in (
            ("--device", self.device, DEVICES), ("--precision", self.precision, PRECISIONS)
        ):  # fmt: skip
            if value not in known:
                raise UsageError(f"{option}: expected {' or '.join(known)}, found {quote(value)}")
        if self.label_smoothing and self.loss == "mean-squared-error":
            raise UsageError("--label-smoothing: belongs to a cross-entropy, not to --loss "
                             "mean-squared-error")  # fmt: skip

    @property
    def table(self) -> LayerTable:
        """The layer table of the frameworks that are trained."""
        return self.model.table

    @property
    def description(self) -> TrainedDescription:
        """What the run's checkpoints say of themselves."""
        return TrainedDescription(self.model.name, self.data.classes, self.preprocessing)

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as plain data; the images are in it by their hash."""
        return {
            "schema": SCHEMA,
            "model": dict(self.model.identity),
            "data": {
                "name": self.data.name,
                "sha256": self.data.sha256,
                "classes": list(self.data.classes),
                "images": {name: len(x.labels) for name, x in self.data.splits.items()},
            },
            "preprocessing": self.preprocessing.to_json(),
            "augmentation": self.augmentation.to_json(),
            "optimizer": self.optimizer.to_json(),
            "schedule": self.schedule.to_json(),
            "callbacks": self.callbacks.to_json(),
            "epochs": self.epochs,
            "batch": self.batch,
            "seed": self.seed,
            "validation_share": self.validation_share,
            "drop_last": self.drop_last,
            "loss": self.loss,
            "label_smoothing": self.label_smoothing,
            "initial_weights": self.initial_weights,
            "frameworks": list(self.frameworks),
            "threads": self.threads,
            "initial_epoch": self.initial_epoch,
            "accumulate": self.accumulate,
            "device": self.device,
            "precision": self.precision,
        }


def require_same(
    saved: Mapping[str, Any], current: Configuration, *, where: str, epochs_done: int
) -> None:
    """Raise `UsageError` with every difference that would make a resumed run another run.

    The folder of the data may have moved. More epochs may be asked for, unless the schedule
    depends on their number.
    """
    now = current.to_json()
    saved = {**_EARLIER, **saved}
    # JSON has lists where specs have tuples.
    differences = [
        text
        for name, text in _differences(saved, json.loads(json.dumps(now)))
        if name not in ("data.name", "epochs")
    ]
    epochs = saved.get("epochs")
    if epochs != current.epochs:
        if current.schedule.depends_on_epochs:
            differences.append(f"epochs: {epochs} there, {current.epochs} now")
        elif current.epochs < epochs_done:
            differences.append(f"epochs: {epochs_done} are done, {current.epochs} now")
    if differences:
        raise UsageError(
            f"{where}: --resume needs the run's own model, data and options: "
            f"{'; '.join(differences)}"
        )


_EARLIER: Mapping[str, Any] = {"accumulate": 1, "device": "cpu", "precision": "float32"}
"""What the configuration of a run does not say that an earlier version began."""

_ABSENT = object()


def _differences(saved: Any, current: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the text of each value that differs in nested data."""
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        for key in dict.fromkeys((*saved, *current)):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(saved.get(key, _ABSENT), current.get(key, _ABSENT), inner)
    elif saved != current:
        yield name, f"{name}: {_text(saved)} there, {_text(current)} now"


def _text(value: Any) -> str:
    if value is None or value is _ABSENT:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return abbreviate(value) if isinstance(value, str) else quote(value)
