"""The folder of a run: its configuration, its state, its checkpoints and its history.

A state is complete once `progress.json` names it: the frameworks' state files are written first,
under names of their own, and the files of the state before are deleted afterwards. A run that is
killed at any moment goes on from the last complete state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from parity import files, temporary
from parity.errors import InputError, OutputError, UsageError
from parity.training.callbacks import CallbackState, EpochMetrics
from parity.training.description import FILE_NAME, TrainedDescription

SCHEMA = "parity.progress/1"

_STATE = re.compile(r"state-\d+-\d+\.safetensors")
_CHECKPOINTS = ("last", "best", "lowest-loss")


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
    skipped: int = 0
    """The steps that the optimizer did not take, for a gradient that was not finite."""

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
            "skipped": self.skipped,
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
    """How far a run is: `batch` is the next batch of `epoch`, from 0 on; epochs count from 1."""

    frameworks: Mapping[str, FrameworkProgress]
    epoch: int = 1
    batch: int = 0

    @property
    def label(self) -> str:
        """A name for the state's files."""
        return f"{self.epoch}-{self.batch}"

    def with_framework(self, name: str, progress: FrameworkProgress) -> Self:
        return replace(self, frameworks={**self.frameworks, name: progress})

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "epoch": self.epoch,
            "step": self.batch,
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

    def require_free(self, frameworks: Sequence[str]) -> None:
        """Raise `UsageError` if the folder holds a run, or a file of one."""
        if self.configuration.exists():
            raise UsageError(
                f"{self.path}: holds a run; --resume continues it, --out names another folder"
            )
        # The new run would take the file for its own: other weights, steps that it did not compare.
        for path in self._list_files(frameworks):
            raise UsageError(
                f"{path}: is a file of another run, whose configuration.json is gone; move it, or "
                "name another folder with --out"
            )

    def create(self, frameworks: tuple[str, ...], configuration: Mapping[str, Any]) -> None:
        """Make the folder of a new run. Raises `UsageError` if it holds one, or a file of one."""
        self.require_free(frameworks)
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
        """Delete the state files that are not those of `progress`."""
        for framework in progress.frameworks:
            kept = self.state(framework, progress)
            for path in self._list_states(framework):
                if path != kept:
                    path.unlink(missing_ok=True)

    def delete_incomplete_files(self, frameworks: Sequence[str]) -> None:
        """Delete what a killed process was writing in the run's own folders."""
        logs = (self.events(name).parent for name in frameworks)
        for folder in (self.path, *(self.path / name for name in frameworks), *logs):
            temporary.sweep(folder)

    def require_other_outputs(
        self, outputs: Iterable[Path | None], frameworks: Sequence[str]
    ) -> None:
        """Raise `OutputError` for an output in the place of one of the run's files."""
        files_of_run = {self.configuration.absolute(), *(p.absolute() for p in self._files())}
        folders = [(self.path / name).absolute() for name in (*frameworks, "tensorboard")]
        for path in outputs:
            if path is not None and (
                path.absolute() in files_of_run
                or any(path.absolute().is_relative_to(folder) for folder in folders)
            ):
                raise OutputError(f"{path}: is the place of a file of the run; give another name")

    def _files(self) -> list[Path]:
        """Return the paths of the files in the run's folder, but for its configuration."""
        own = [self.progress, self.history, self.picture, self.metrics, self.verification]
        return [*own, self.initial_weights, self.description]

    def _list_files(self, frameworks: Sequence[str]) -> Iterator[Path]:
        """Yield the files there that a run has beside its configuration."""
        own = self._files()
        for name in frameworks:
            own += [self.events(name), *self._list_states(name)]
            # --format writes the checkpoints with other suffixes, too.
            own += [p for each in _CHECKPOINTS for p in (self.path / name).glob(f"{each}.*")]
        yield from (path for path in own if path.exists())

    def _list_states(self, framework: str) -> list[Path]:
        return [p for p in (self.path / framework).glob("state-*") if _STATE.fullmatch(p.name)]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(files.read_text(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    return data
