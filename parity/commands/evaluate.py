"""`parity.evaluate`: labelled images through every runtime of a model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from parity import temporary
from parity.commands.notebooks import show_in_notebooks
from parity.commands.outputs import require_outputs
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    optional_path,
    parse_image_size,
    parse_subjects,
)
from parity.comparison.placement import DeviceRequest, place_subjects
from parity.defaults import PASS_BATCH, VALIDATION_SHARE
from parity.errors import ChildError, InputError, MissingRuntimeError, UsageError
from parity.evaluation import judging
from parity.evaluation.models import LoadedModels, ModelRequest, load_models
from parity.evaluation.passes import Outputs, Passes
from parity.evaluation.results import Evaluation, SplitResult
from parity.network import architectures
from parity.network.spec import ModelSpec
from parity.processes import cards, registry
from parity.processes.children import Children
from parity.processes.references import REGISTERED, WEIGHTS, ModelReference, parse_reference
from parity.report import evaluation as pages
from parity.text import quote
from parity.training.data.batches import BatchPlan, BatchReader, Preprocessing
from parity.training.data.images import FileImages
from parity.training.data.labelled import LabelledImages, open_labelled
from parity.training.data.loading import default_workers, open_loader
from parity.training.description import TrainedDescription, read_description


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to evaluate as the user named it, with what its checkpoint says of itself."""

    reference: ModelReference
    weights: Path | None
    description: TrainedDescription | None
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    image_size: tuple[int, int] | None = None
    channels: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that its checkpoint tells; empty if it tells none."""
        return () if self.description is None else self.description.classes

    def spec(self, classes: int | None, channels: int | None) -> ModelSpec | None:
        """Return the registered architecture at its sizes; None for any other model."""
        if self.reference.form != REGISTERED:
            return None
        told = self.description
        size = self.image_size or (None if told is None else told.preprocessing.image_size)
        kept = None if told is None else told.preprocessing.channels
        return architectures.get(
            self.reference.target,
            classes=classes,
            image_size=size,
            channels=self.channels or kept or channels,
        )

    def preprocessing(self, input_shape: tuple[int, int, int]) -> Preprocessing:
        """Return how images are prepared: as in training, unless the user says otherwise."""
        channels, *size = input_shape
        mean, deviation = self.mean, self.deviation
        if self.description is not None and not (mean or deviation):
            kept = self.description.preprocessing
            mean, deviation = kept.mean, kept.deviation
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
    """Parse a model's name, and read what its checkpoint says of itself."""
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
    """Return the threads of each of so many children that compute at the same time."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (available or 1) // children)


@show_in_notebooks
def evaluate(
    model: str,
    *,
    data: str | Path,
    weights: str | Path | None = None,
    split: str | None = None,
    subjects: str | Sequence[str] | None = None,
    exact: bool = False,
    batch: int = PASS_BATCH,
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
    workers: int | None = None,
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    html: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run labelled images through every runtime of a model: figures, and labels that change.

    The runtimes are Keras, PyTorch and the ONNX graphs exported from both, for a registered
    architecture; for any other model its framework and its own graph. They compute at the same
    time. The float64 reference runs on a sample of the passes, and on every image whose label is
    not the same in all runtimes: it says which runtime is right.

    Parameters:
        model: A registered architecture, or a reference to any classifier of images.
        data: An image folder, a folder of IDX files, or "digits".
        weights: The checkpoint; a model that a reference names may bring its own. One that
            `parity.train` wrote also has the class names, the image size and the scale.
        split: "training", "validation", "test" or "all"; by default validation and test, or all
            the images of a folder without such parts.
        subjects: The runtimes, "keras,onnx-keras" or a sequence; all by default.
        exact: Whether the float64 reference runs on every pass.
        batch: The number of images of a pass.
        image_size, channels, mean, deviation: How images are prepared, where the checkpoint does
            not tell it, or otherwise.
        seed, validation_share: Those of the training, for data that are split by them.
        trust, custom_objects: As for `parity.compare`.
        device: "cpu" or "gpu".
        threads: The threads of each runtime; by default the cores, shared.
        workers: The processes that load images; by default none for images in memory.
        python: The interpreters of runtimes: {"keras": "envs/keras"}.
        timeout: The time limit of one request to a runtime, in seconds.
        html: A file for the page: figures, confusion matrices, images whose label changes.
        out: A folder for evaluation.json, evaluation.html, predictions.csv and the pictures.
        progress: A function that is called with a runtime and what it is doing now.

    Returns the `Evaluation`. Images that cannot be read are left out and named in `unreadable`;
    a runtime that is missing or fails is named in `failures`.

    Raises `UsageError` for parameters that contradict one another, `InputError` for data that do
    not fit the model, `WeightError` for a checkpoint that does not fit, `OutputError` for a folder
    that cannot be written.

    Example:
        >>> import parity
        >>> found = parity.evaluate("resnet18", data="digits", weights="best.safetensors")
        >>> found.splits[0].scores["onnx-torch"].top1 > 0.95, found.changed
        (True, 0)
    """
    progress = progress or no_progress
    require_outputs([html], [model, custom_objects], data=data, weights=weights, folder=out)
    if out is not None:
        pages.require_replaceable(Path(out))
    evaluated = identify_model(
        model, weights, mean=mean, deviation=deviation, image_size=image_size, channels=channels
    )
    if evaluated.reference.form == REGISTERED:
        # Unknown sizes are refused before the images are read.
        evaluated.spec(None, None)
    chosen = () if subjects is None else parse_subjects(subjects)
    interpreters = find_interpreters(python)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary.working_folder())
        request = ModelRequest(
            spec=evaluated.spec(None, None),
            reference=evaluated.reference,
            weights=evaluated.weights,
            subjects=chosen,
            trust=tuple(map(str, trust)),
            custom_objects=None if custom_objects is None else str(custom_objects),
            device=device,
            python=interpreters,
        )
        require_card(request)
        children = stack.enter_context(
            Children(python=interpreters, timeout=timeout, gpu=device == "gpu")
        )
        # They import their frameworks while the images are read.
        children.start(request.first_children)
        progress("data", "reading images")
        dataset = open_labelled(
            data,
            split=split,
            classes=evaluated.classes,
            seed=seed,
            validation_share=validation_share,
        )
        progress("data", "done")
        request = replace(
            request,
            spec=evaluated.spec(len(dataset.classes), dataset.channels),
            threads=share_threads(len(request.first_children)) if threads is None else threads,
            input_shape=given_shape(evaluated),
        )
        models = load_models(request, children, folder, progress)
        require_any(models)
        preprocessing = evaluated.preprocessing(models.input_shape)
        readers = {
            name: BatchReader(
                images, BatchPlan(len(images.labels), batch, shuffle=False), preprocessing
            )
            for name, images in dataset.splits.items()
        }
        loader = stack.enter_context(open_loader(folder, workers=_count_workers(workers, dataset)))
        passes = Passes(models, children, loader, folder, progress)
        splits: dict[str, SplitResult] = {}
        outputs: dict[str, Outputs] = {}
        for name, reader in readers.items():
            found = outputs[name] = passes.run(reader, exact=exact)
            require_any(models, found)
            judging.require_classes(found, dataset.classes, str(data))
            judging.drop_non_finite(found, reader)
            reference = models.reference
            splits[name] = judging.judge_split(
                name, found, reader, passes, dataset.classes,
                runtime=None if reference is None else reference.child,
            )  # fmt: skip
    failures = dict(models.failures)
    for found in outputs.values():
        failures |= found.failures
    evaluation = Evaluation(
        model=model,
        weights=None if weights is None else str(weights),
        data=str(data),
        classes=dataset.classes,
        splits=tuple(splits.values()),
        unreadable=dataset.unreadable,
        failures=failures,
        versions=models.versions,
        notes=_notes(evaluated, models),
    )
    if html is not None or out is not None:
        progress("report", "drawing pictures")
        pages.write(
            evaluation, readers, outputs, seed=seed, page=optional_path(html),
            folder=optional_path(out),
        )  # fmt: skip
    return evaluation


def given_shape(model: EvaluatedModel) -> tuple[int, int, int] | None:
    """Return the (C, H, W) that the user or the checkpoint says; None if neither does."""
    told = None if model.description is None else model.description.preprocessing
    size = model.image_size or (None if told is None else told.image_size)
    channels = model.channels or (None if told is None else told.channels)
    if size is None:
        return None
    return (channels or 3, *size)


def require_any(models: LoadedModels, outputs: Outputs | None = None) -> None:
    """Raise `ChildError`, with the reasons, where no runtime is left, or has outputs."""
    if not models.predictors or (outputs is not None and not outputs.by_subject):
        failures = {**models.failures, **({} if outputs is None else outputs.failures)}
        reasons = "; ".join(failures.values())
        raise ChildError(f"no runtime can be evaluated: {reasons}")


def require_card(request: ModelRequest) -> None:
    """Raise `MissingRuntimeError`, a line for each runtime, if a card is asked for without one."""
    if request.device != "gpu":
        return
    try:
        cards.find_card()
    except MissingRuntimeError:
        names = request.first_children
        subjects = [DeviceRequest(name, name, name, request.device) for name in names]
        place_subjects(subjects, precision="float32", python=request.python)


def _count_workers(workers: int | None, data: LabelledImages) -> int:
    if workers is not None:
        return workers
    from_files = any(isinstance(images, FileImages) for images in data.splits.values())
    return default_workers(from_files=from_files)


def _notes(model: EvaluatedModel, models: LoadedModels) -> tuple[str, ...]:
    notes = []
    if not model.classes:
        notes.append(
            "the checkpoint does not tell its classes: those of the data were taken, in the order "
            "of their names"
        )
    if models.reference is None:
        labels = ", ".join(registry.label(name) for name in registry.model_runtimes())
        notes.append(f"no float64 reference: it needs a model of {labels}")
    return tuple(notes)
