"""The result of a training run: its figures, its checkpoints, and notes for the reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from parity.processes import origin
from parity.training import history, tensorboard
from parity.training.callbacks import EpochMetrics
from parity.training.configuration import Configuration
from parity.training.run_folder import RunFolder, RunProgress
from parity.training.verification import JUDGED_PRECISIONS, REFERENCE, SUBJECT, VerifiedStep


@dataclass(frozen=True)
class FrameworkResult:
    """One framework's finished run: its epochs, and where its checkpoints are.

    `best` has the highest validation accuracy, that of `best_epoch`. `stopped_epoch` is 0 unless
    it stopped early. `seconds` is the time of its training steps, on `images` images.
    """

    framework: str
    epochs: tuple[EpochMetrics, ...]
    best_epoch: int
    best_accuracy: float
    stopped_epoch: int
    last: Path
    best: Path
    seconds: float
    images: int


@dataclass(frozen=True)
class TrainingResult:
    """A finished run; `folder` holds its checkpoints, history and configuration.

    `notes` say what was decided for the user: images that were left out, logs that need a package.
    `band` is the range of PyTorch's runs with rounding noise; `inside_band` says how many points of
    another framework's curves are inside, and of how many. `verified_steps` are the steps that were
    compared one by one.
    """

    model: str
    folder: Path
    classes: tuple[str, ...]
    frameworks: tuple[FrameworkResult, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    """The time of the whole command."""
    verified_steps: tuple[VerifiedStep, ...] = ()
    band: history.Band | None = None
    inside_band: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every verified step is the same in both frameworks; true if none was."""
        return all(step.agrees for step in self.verified_steps)

    @property
    def is_undetermined(self) -> bool:
        """Whether no verified step differs, and one cannot be told from a unit at a hidden kink."""
        steps = self.verified_steps
        return not self.agrees and all(step.agrees or step.is_undetermined for step in steps)


def add_band(
    result: TrainingResult, replicates: Sequence[Sequence[EpochMetrics]]
) -> TrainingResult:
    """Return the result with the band of the replicates, and draw it."""
    epochs = {each.framework: each.epochs for each in result.frameworks}
    # The reference's own run is one of them.
    band = history.measure_band([epochs[REFERENCE], *replicates])
    picture = RunFolder(result.folder).picture
    history.write_picture(picture, result.model, epochs, band)
    inside = {
        name: history.count_inside(band, own) for name, own in epochs.items() if name != REFERENCE
    }
    return replace(result, band=band, inside_band=inside)


def summarize_run(
    configuration: Configuration,
    folder: RunFolder,
    finished: RunProgress,
    compared: tuple[VerifiedStep, ...],
    seconds: float,
) -> TrainingResult:
    unreadable = configuration.data.unreadable
    notes = [*configuration.model.notes, *_describe_precision(configuration, finished, compared)]
    notes += [f"left out: {reason}" for reason in unreadable[:10]]
    if len(unreadable) > 10:
        notes.append(f"left out: {len(unreadable) - 10} more images that cannot be read")
    if not tensorboard.is_installed():
        command = origin.install_command("train", ["tensorboard"])
        notes.append(f"no logs for TensorBoard were written: {command}")
    return TrainingResult(
        model=configuration.model.name,
        folder=folder.path,
        classes=configuration.data.classes,
        frameworks=tuple(
            FrameworkResult(
                framework=name,
                epochs=each.epochs,
                best_epoch=each.callbacks.best_accuracy_epoch,
                best_accuracy=each.callbacks.best_accuracy,
                stopped_epoch=each.callbacks.stopped_epoch,
                last=folder.checkpoint(name, "last"),
                best=folder.checkpoint(name, "best"),
                seconds=each.seconds,
                images=each.images,
            )
            for name, each in finished.frameworks.items()
        ),
        notes=tuple(notes),
        seconds=seconds,
        verified_steps=compared,
    )


def _describe_precision(
    configuration: Configuration, finished: RunProgress, compared: tuple[VerifiedStep, ...]
) -> Iterator[str]:
    """Yield what a reader must know of a run in mixed precision, or on the GPU."""
    if configuration.precision not in JUDGED_PRECISIONS and compared:
        yield (
            f"the steps are compared in float64 and float32; those in {configuration.precision} "
            "are not judged, since units at kinks cannot be proved there"
        )
    if configuration.device == "gpu" and compared:
        yield (
            f"the compared steps are {SUBJECT}'s on the GPU and {REFERENCE}'s on the CPU; those of "
            f"{REFERENCE} on the GPU are not compared"
        )
    for name, each in finished.frameworks.items():
        if each.skipped:
            steps = "1 step was" if each.skipped == 1 else f"{each.skipped} steps were"
            yield (
                f"{name}: {steps} left out, whose scaled gradients were not finite in "
                f"{configuration.precision}"
            )
