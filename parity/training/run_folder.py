"""The folder of a run: its configuration, its state, its checkpoints and its history.

A state is complete once `progress.json` names it: the frameworks' state files are written first,
under names of their own, and the files of the state before are deleted afterwards. A run that is
killed at any moment goes on from the last complete state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from parity import files
from parity.errors import InputError, OutputError, UsageError
from parity.training.callbacks import CallbackState, EpochMetrics
from parity.training.description import FILE_NAME, TrainedDescription

SCHEMA = "parity.progress/1"

_STATES = "state-*.safetensors"


@dataclass(frozen=True)
class FrameworkProgress:
    """One framework's progress: figures of the epoch so far, callbacks, and finished epochs."""

    loss_sum: float = 0.0
    correct: int = 0
    count: int = 0
    learning_rate: float = 0.0
    callbacks: CallbackState = field(default_factory=CallbackState)
    epochs: tuple[EpochMetrics, ...] = ()
    events: int = 0
    """The length of the log for TensorBoard, in bytes."""
    seconds: float = 0.0
    """The time of all training steps."""
    images: int = 0
    """The number of images of all training steps."""

    def to_json(self) -> dict[str, Any]:
        return {
            "loss_sum": self.loss_sum,
            "correct": self.correct,
            "count": self.count,
            "learning_rate": self.learning_rate,
            "callbacks": self.callbacks.to_json(),
            "epochs": [epoch.to_json() for epoch in self.epochs],
            "events": self.events,
            "seconds": self.seconds,
            "images": self.images,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "callbacks": CallbackState.from_json(data["callbacks"]),
                "epochs": tuple(EpochMetrics.from_json(epoch) for epoch in data["epochs"]),
            }
        )


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: `step` is the next step of `epoch`, from 0 on; epochs count from 1."""

    frameworks: Mapping[str, FrameworkProgress]
    epoch: int = 1
    step: int = 0

    @property
    def label(self) -> str:
        """A name for the state's files."""
        return f"{self.epoch}-{self.step}"

    def with_framework(self, name: str, progress: FrameworkProgress) -> Self:
        return replace(self, frameworks={**self.frameworks, name: progress})

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "epoch": self.epoch,
            "step": self.step,
            "frameworks": {name: each.to_json() for name, each in self.frameworks.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        frameworks = data["frameworks"].items()
        return cls(
            {name: FrameworkProgress.from_json(each) for name, each in frameworks},
            data["epoch"],
            data["step"],
        )


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def configuration(self) -> Path:
        return self.path / "configuration.json"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def history(self) -> Path:
        return self.path / "history.json"

    @property
    def picture(self) -> Path:
        return self.path / "history.svg"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def verification(self) -> Path:
        """Return the path of the compared steps."""
        return self.path / "verification.json"

    @property
    def initial_weights(self) -> Path:
        return self.path / "initial.safetensors"

    @property
    def description(self) -> Path:
        """The class names and the form of the images, for checkpoints that cannot hold them."""
        return self.path / FILE_NAME

    def write_description(self, description: TrainedDescription) -> None:
        text = json.dumps(description.to_json(), indent=2, ensure_ascii=False)
        files.write_text(self.description, text + "\n")

    def checkpoint(self, framework: str, name: str) -> Path:
        """Return the path of `last`, `best` or `lowest-loss` of a framework."""
        return self.path / framework / f"{name}.safetensors"

    def state(self, framework: str, progress: RunProgress) -> Path:
        """Return the path of a framework's part of a state."""
        return self.path / framework / f"state-{progress.label}.safetensors"

    def events(self, framework: str) -> Path:
        """Return the path of a framework's log for TensorBoard."""
        return self.path / "tensorboard" / framework / "events.out.tfevents.0.parity"

    def create(self, frameworks: tuple[str, ...], configuration: Mapping[str, Any]) -> None:
        """Make the folder of a new run. Raises `UsageError` if it holds one already."""
        if self.configuration.exists() or self.progress.exists():
            raise UsageError(
                f"{self.path}: holds a run; --resume continues it, --out names another folder"
            )
        try:
            for folder in (*frameworks, *(f"tensorboard/{name}" for name in frameworks)):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written: {error.strerror or error}"
            ) from error
        files.write_text(self.configuration, json.dumps(configuration, indent=2) + "\n")

    def read_configuration(self) -> dict[str, Any]:
        """Return the configuration of the run. Raises `UsageError` if the folder holds none."""
        if not self.configuration.is_file():
            raise UsageError(f"{self.path}: holds no run that --resume could continue")
        return _read_json(self.configuration)

    def write_configuration(self, configuration: Mapping[str, Any]) -> None:
        files.write_text(self.configuration, json.dumps(configuration, indent=2) + "\n")

    def read_progress(self) -> RunProgress | None:
        """Return the last complete state; None for a run that was ended before its first."""
        if not self.progress.is_file():
            return None
        data = _read_json(self.progress)
        if data.get("schema") != SCHEMA:
            raise InputError(f"{self.progress}: expected the schema {SCHEMA!r}")
        return RunProgress.from_json(data)

    def commit(self, progress: RunProgress) -> None:
        """Make a state, whose files are written, the one to resume from; delete the others."""
        files.write_text(self.progress, json.dumps(progress.to_json(), indent=2) + "\n")
        self.delete_other_states(progress)

    def delete_other_states(self, progress: RunProgress) -> None:
        """Delete the state files that are not those of `progress`, and incomplete files."""
        for framework in progress.frameworks:
            kept = self.state(framework, progress)
            for path in (self.path / framework).glob(_STATES):
                if path != kept:
                    path.unlink(missing_ok=True)

    def delete_incomplete_files(self) -> None:
        """Delete what a killed run was writing: hidden files that end as checkpoints do."""
        for folder in (self.path, *(p for p in self.path.iterdir() if p.is_dir())):
            for path in folder.glob(".*.*"):
                if path.is_file() and path.suffix in (".safetensors", ".json", ".csv", ".svg"):
                    path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(files.read_text(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return data
