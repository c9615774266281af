"""The model of an evaluation as the user names it, and the description in its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.commands.values import ImageSize, parse_image_size
from parity.comparison.graphs.image_shapes import OpenShape
from parity.comparison.placement import DeviceRequest, place_subjects
from parity.errors import ChildError, InputError, RequirementError, UsageError
from parity.evaluation.models import LoadedModels, ModelRequest
from parity.evaluation.passes import Outputs
from parity.network import architectures
from parity.network.spec import ModelSpec
from parity.processes import gpus
from parity.processes.references import REGISTERED, WEIGHTS, ModelReference, parse_reference
from parity.text import quote
from parity.training.data.batches import Preprocessing
from parity.training.description import TrainedDescription, read_description


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to evaluate as the user named it, with the description in its checkpoint."""

    reference: ModelReference
    weights: Path | None
    description: TrainedDescription | None
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    image_size: tuple[int, int] | None = None
    channels: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in its checkpoint; empty if there are none."""
        return () if self.description is None else self.description.classes

    def spec(self, classes: int | None, channels: int | None) -> ModelSpec | None:
        """Return the registered architecture; None for any other model.

        `channels` applies where neither the user nor the checkpoint states their number.
        """
        if self.reference.form != REGISTERED:
            return None
        trained = None if self.description is None else self.description.preprocessing
        size = self.image_size or (None if trained is None else trained.image_size)
        trained_channels = None if trained is None else trained.channels
        return architectures.get(
            self.reference.target,
            classes=classes,
            image_size=size,
            channels=self.channels or trained_channels or channels,
        )

    def preprocessing(self, input_shape: tuple[int, int, int]) -> Preprocessing:
        """Return how images are prepared: as in training, unless the user says otherwise."""
        channels, *size = input_shape
        mean, deviation = self.mean, self.deviation
        if self.description is not None and not (mean or deviation):
            trained = self.description.preprocessing
            mean, deviation = trained.mean, trained.deviation
        return Preprocessing((size[0], size[1]), channels, mean, deviation)


def identify_model(
    model: str,
    weights: str | Path | None,
    *,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
    image_size: ImageSize | None = None,
    channels: int | None = None,
) -> EvaluatedModel:
    """Parse a model's name, and read the description in its checkpoint."""
    reference = parse_reference(model)
    options = dict(reference.options)
    if reference.form == REGISTERED:
        weights = weights or options.pop(WEIGHTS, None)
        if options:
            raise UsageError(
                f"{quote(model)}: the sizes are those of the checkpoint and the data; "
                "--image-size and --channels change them"
            )
    path = None if weights is None else Path(weights)
    if path is not None and not path.is_file():
        raise InputError(f"{path}: no such file")
    described = path if path is not None else Path(reference.target)
    return EvaluatedModel(
        reference,
        path,
        read_description(described) if described.is_file() else None,
        tuple(mean),
        tuple(deviation),
        parse_image_size(image_size),
        channels,
    )


def share_threads(children: int) -> int:
    """Return the threads of each of `children` processes that compute at the same time."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (available or 1) // children)


def find_input_shape(model: EvaluatedModel) -> OpenShape:
    """Return the (C, H, W) that the user or the checkpoint states; None for what neither does."""
    trained = None if model.description is None else model.description.preprocessing
    size = model.image_size or (None if trained is None else trained.image_size)
    channels = model.channels or (None if trained is None else trained.channels)
    return (channels, *(size or (None, None)))


def require_working_runtime(models: LoadedModels, outputs: Outputs | None = None) -> None:
    """Raise `ChildError`, with the failures, if no runtime has the model, or none has outputs."""
    if not models.predictors or (outputs is not None and not outputs.by_subject):
        failures = {**models.failures, **({} if outputs is None else outputs.failures)}
        reasons = "; ".join(dict.fromkeys(failures.values()))
        channels, *size = models.input_shape
        raise ChildError(
            f"no runtime can be evaluated: {reasons}; an image is given as {channels} channels of "
            f"{'x'.join(map(str, size))} pixels, which --channels and --image-size change"
        )


def require_gpu(request: ModelRequest) -> None:
    """Raise `RequirementError`, a line for each runtime, for device "gpu" where none is."""
    if request.device != "gpu":
        return
    try:
        gpus.find_gpu()
    except RequirementError:
        names = request.first_children
        subjects = [DeviceRequest(name, name, name, request.device) for name in names]
        place_subjects(subjects, precision="float32", python=request.python)
