"""`parity.predict`: class names and probabilities of images, in every runtime of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import temporary
from parity.commands.evaluated_model import (
    EvaluatedModel,
    find_input_shape,
    identify_model,
    require_gpu,
    require_working_runtime,
    share_threads,
)
from parity.commands.notebooks import show_in_notebooks
from parity.commands.outputs import require_outputs
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    optional_path,
    parse_subjects,
)
from parity.comparison.graphs.image_shapes import DataImages
from parity.defaults import PASS_BATCH, TOP, VALIDATION_SHARE
from parity.errors import InputError, UsageError
from parity.evaluation import fonts, judging, pictures
from parity.evaluation.models import ModelRequest, load_models
from parity.evaluation.passes import Passes
from parity.evaluation.pictures import SamplePrediction
from parity.evaluation.results import Label
from parity.numerics.probabilities import log_probabilities
from parity.processes.children import Children
from parity.report.evaluation import read_thumbnail
from parity.training.data import decoding
from parity.training.data.batches import BatchPlan, BatchReader
from parity.training.data.images import (
    FileImages,
    Images,
    SelectedImages,
    find_image_size,
)
from parity.training.data.labelled import open_labelled
from parity.training.data.loading import open_loader

SCHEMA = "parity.predictions/1"


@dataclass(frozen=True)
class Prediction:
    """One image: its most probable classes by runtime; `true` is None where it is not known."""

    image: str
    true: str | None
    labels: Mapping[str, tuple[Label, ...]]

    @property
    def is_same(self) -> bool:
        """Whether all runtimes have the same label."""
        return len({labels[0].name for labels in self.labels.values()}) == 1

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "true": self.true,
            "labels": {
                runtime: [label.to_json() for label in labels]
                for runtime, labels in self.labels.items()
            },
        }


@dataclass(frozen=True)
class PredictionResult:
    """The predictions of all images; `failures` and `unreadable` are as in an `Evaluation`."""

    model: str
    predictions: tuple[Prediction, ...]
    unreadable: tuple[str, ...]
    failures: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where the runtimes differ on a label, else 3 where something could not be run."""
        if not all(prediction.is_same for prediction in self.predictions):
            return 1
        return 3 if self.failures or self.unreadable else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "unreadable": list(self.unreadable),
            "failures": dict(self.failures),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Selection:
    """The images to predict; `true` are their classes, as far as they are known."""

    images: Images
    true: tuple[str | None, ...]
    unreadable: tuple[str, ...]
    channels: int
    classes: tuple[str, ...]


@show_in_notebooks
def predict(
    model: str,
    *images: str | Path,
    weights: str | Path | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    samples: int = 5,
    top: int = TOP,
    picture: str | Path | None = None,
    subjects: str | Sequence[str] | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
    seed: int = 0,
    validation_share: float = VALIDATION_SHARE,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    progress: Progress | None = None,
) -> PredictionResult:
    """Return the most probable classes of images, in every runtime of a model.

    Parameters:
        model: A registered architecture, or a reference to any classifier of images.
        images: Image files. An image in a folder with the name of a class has that true class.
        weights: The checkpoint; a model that a reference names may bring its own.
        data, split, samples, seed, validation_share: Instead of images: so many of a data set,
            chosen by the seed; of the test images if there are any.
        top: How many classes are returned for each image.
        picture: A file for a picture of the images: true class, predicted class and probability of
            the first runtime; the title is green where it is right and red where it is wrong.
        subjects: The runtimes, "keras,onnx-keras" or a sequence; all by default.
        image_size, channels, mean, deviation: How images are prepared, where the checkpoint does
            not tell it, or otherwise.
        trust, custom_objects: As for `parity.compare`.
        device: "cpu" or "gpu".
        threads: The threads of each runtime; by default the cores, shared.
        python: The interpreters of runtimes: {"keras": "envs/keras"}.
        timeout: The time limit of one request to a runtime, in seconds.
        progress: A function that is called with a runtime and what it is doing now.

    Images that cannot be read are named in `unreadable`.

    Raises `InputError` if no image can be read, and as `parity.evaluate`.

    Example:
        >>> import parity
        >>> found = parity.predict("resnet18", "3.png", weights="best.safetensors")
        >>> found.predictions[0].labels["torch"][0].name, found.exit_code
        ('3', 0)
    """
    progress = progress or no_progress
    if bool(images) == (data is not None):
        raise UsageError("predict: give image files, or --data, and not both")
    if top < 1 or samples < 1:
        raise UsageError("predict: --top and --samples must be whole numbers above 0")
    target = optional_path(picture)
    if target is not None:
        pictures.require_format(target)
    require_outputs([target], [model, *images, custom_objects], data=data, weights=weights)
    known = identify_model(
        model, weights, mean=mean, deviation=deviation, image_size=image_size, channels=channels
    )
    interpreters = find_interpreters(python)
    if data is not None:
        selection = _sample(
            data, known, split=split, count=samples, seed=seed, share=validation_share
        )
    else:
        selection = _open_files([Path(image) for image in images], known.classes)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary.working_folder())
        request = ModelRequest(
            spec=known.spec(len(selection.classes) or None, selection.channels),
            reference=known.reference,
            weights=known.weights,
            subjects=() if subjects is None else parse_subjects(subjects),
            trust=tuple(map(str, trust)),
            custom_objects=None if custom_objects is None else str(custom_objects),
            device=device,
            python=interpreters,
            input_shape=find_input_shape(known),
            data=DataImages(selection.channels, find_image_size(selection.images)),
        )
        count = share_threads(len(request.first_children)) if threads is None else threads
        request = replace(request, threads=count)
        require_gpu(request)
        children = stack.enter_context(
            Children(python=interpreters, timeout=timeout, gpu=device == "gpu")
        )
        children.start(request.first_children)
        models = load_models(request, children, folder, progress)
        require_working_runtime(models)
        reader = BatchReader(
            selection.images,
            BatchPlan(len(selection.images.labels), PASS_BATCH, shuffle=False),
            known.preprocessing(models.input_shape),
        )
        loader = stack.enter_context(open_loader(folder, workers=0))
        outputs = Passes(models, children, loader, folder, progress).run(reader)
        require_working_runtime(models, outputs)
        judging.drop_non_finite(outputs, reader)
    classes = _name_classes(selection.classes, outputs.by_subject)
    if selection.classes:
        judging.require_classes(outputs, classes, "its list of classes")
    predictions = tuple(
        Prediction(
            image=selection.images.describe(index),
            true=true,
            labels={
                name: _rank(array[index], classes, top)
                for name, array in outputs.by_subject.items()
            },
        )
        for index, true in enumerate(selection.true)
    )
    notes = [*models.notes]
    if target is not None:
        _draw(target, predictions, reader)
        names = [text for p in predictions for text in (p.true or "", _first(p).name)]
        note = fonts.describe_missing_font(names)
        notes += [] if note is None else [note]
    failures = {**models.failures, **outputs.failures}
    return PredictionResult(model, predictions, selection.unreadable, failures, tuple(notes))


def _open_files(paths: Sequence[Path], classes: tuple[str, ...]) -> _Selection:
    """Open the images that can be read; their folder's name is their class if it is one."""
    reasons = {path: decoding.find_damage(path) for path in dict.fromkeys(paths)}
    good = [path for path in paths if reasons[path] is None]
    unreadable = [reason for reason in reasons.values() if reason is not None]
    if not good:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise InputError(f"no image can be read: {unreadable[0]}{more}")
    true = tuple(
        path.parent.name if path.parent.name in classes else None
        for path in map(Path.absolute, good)
    )
    images = FileImages(Path(), tuple(map(str, good)), (0,) * len(good))
    return _Selection(images, true, tuple(unreadable), 3, classes)


def _sample(
    data: str | Path,
    model: EvaluatedModel,
    *,
    split: str | None,
    count: int,
    seed: int,
    share: float,
) -> _Selection:
    """Choose images of a data set by a seed, from all the splits that are opened."""
    opened = open_labelled(
        data, split=split, classes=model.classes, seed=seed, validation_share=share
    )
    images = list(opened.splits.values())[-1]
    every = len(images.labels)
    random = np.random.default_rng(seed)
    chosen = sorted(random.choice(every, size=min(count, every), replace=False).tolist())
    true = tuple(opened.classes[images.labels[index]] for index in chosen)
    selected = SelectedImages(images, tuple(chosen))
    return _Selection(selected, true, opened.unreadable, opened.channels, opened.classes)


def _name_classes(classes: tuple[str, ...], outputs: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Return the class names, or numbers where none are known."""
    count = max((array.shape[1] for array in outputs.values()), default=0)
    return classes or tuple(f"class {index}" for index in range(count))


def _rank(outputs: NDArray[Any], classes: Sequence[str], top: int) -> tuple[Label, ...]:
    """Return the most probable classes of one image; a margin is the lead over the next one."""
    logs = log_probabilities(outputs[None])[0]
    # Stable, so that of equal classes the first comes first, as argmax has it.
    order = np.argsort(-logs, kind="stable")
    labels = []
    for place, index in enumerate(order[:top].tolist()):
        following = order[place + 1] if place + 1 < len(order) else index
        margin = float(logs[index] - logs[following])
        labels.append(Label(classes[index], float(np.exp(logs[index])), margin))
    return tuple(labels)


def _first(prediction: Prediction) -> Label:
    return next(iter(prediction.labels.values()))[0]


def _draw(path: Path, predictions: Sequence[Prediction], reader: BatchReader) -> None:
    samples = [
        SamplePrediction(
            read_thumbnail(reader, index),
            prediction.true,
            _first(prediction).name,
            _first(prediction).probability,
        )
        for index, prediction in enumerate(predictions)
    ]
    pictures.write_figure(pictures.draw_predictions(samples), path)
