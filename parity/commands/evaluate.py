"""`parity.evaluate`: labelled images through every runtime of a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from parity import files, temporary
from parity.commands.evaluated_model import (
    EvaluatedModel,
    find_input_shape,
    identify_model,
    require_gpu,
    require_working_runtime,
    share_threads,
)
from parity.commands.evaluation_runner import FACTORY, ShardSettings
from parity.commands.evaluation_shards import ShardedPasses
from parity.commands.executors import LOCAL, open_executor
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
from parity.defaults import PASS_BATCH, VALIDATION_SHARE
from parity.errors import UsageError
from parity.evaluation import judging
from parity.evaluation.judging import ReferencePasses
from parity.evaluation.models import LoadedModels, ModelRequest, Predictor, load_models
from parity.evaluation.passes import Outputs, Passes, sample_passes
from parity.evaluation.results import Evaluation, SplitResult
from parity.processes import registry
from parity.processes.children import Children
from parity.processes.executors.local import count_processes
from parity.processes.references import REGISTERED
from parity.report import evaluation as pages
from parity.training.data.batches import BatchPlan, BatchReader
from parity.training.data.images import FileImages, Images, find_image_size
from parity.training.data.labelled import LabelledImages, open_labelled
from parity.training.data.loading import default_workers, open_loader


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
    on: str | None = None,
    jobs: int | None = None,
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
        on: Where shards of the images are evaluated: "local" (processes of this machine), "ray" (a
            cluster that is started on this machine) or "ray:ADDRESS". The result is the same bit
            for bit on machines of the same kind; by default one process runs all images.
        jobs: How many shards run side by side on this machine; by default as many as its cores and
            its memory allow.
        progress: A function that is called with a runtime and what it is doing now.

    Returns the `Evaluation`. Images that cannot be read are left out and named in `unreadable`;
    a runtime that is missing or fails is named in `failures`.

    Raises `UsageError` for parameters that contradict one another, `InputError` for data that do
    not fit the model, `WeightError` for a checkpoint that does not fit, `OutputError` for a folder
    that cannot be written, `ChildError` for a shard whose process is lost again and again,
    `RequirementError` for a cluster that cannot be reached.

    Example:
        >>> import parity
        >>> found = parity.evaluate("resnet18", data="digits", weights="best.safetensors")
        >>> found.splits[0].scores["onnx-torch"].top1 > 0.95, found.changed
        (True, 0)
    """
    progress = progress or no_progress
    require_outputs([html], [model, custom_objects], data=data, weights=weights, folder=out)
    if html is not None:
        files.require_suffix(html, ".html")
    if out is not None:
        pages.require_replaceable(Path(out))
    if jobs is not None and on is None:
        raise UsageError("--jobs: only with --on: without it one process runs all images")
    evaluated = identify_model(
        model, weights, mean=mean, deviation=deviation, image_size=image_size, channels=channels
    )
    if evaluated.reference.form == REGISTERED:
        # Unknown sizes are refused before the images are read.
        evaluated.spec(None, None)
    request = ModelRequest(
        spec=evaluated.spec(None, None),
        reference=evaluated.reference,
        weights=evaluated.weights,
        subjects=() if subjects is None else parse_subjects(subjects),
        threads=1 if threads is None else threads,
        trust=tuple(map(str, trust)),
        custom_objects=None if custom_objects is None else str(custom_objects),
        device=device,
        python=find_interpreters(python),
    )

    if on in (None, LOCAL):
        require_gpu(request)

    def read_images() -> LabelledImages:
        progress("data", "reading images")
        found = open_labelled(
            data,
            split=split,
            classes=evaluated.classes,
            seed=seed,
            validation_share=validation_share,
        )
        progress("data", "done")
        return found

    plan = _Plan(evaluated, request, read_images, threads, batch, exact, workers, timeout)
    if on is None:
        found = _evaluate_here(plan, progress)
    else:
        found = _evaluate_on(plan, progress, on=on, jobs=jobs)
    failures = dict(found.models.failures)
    for outputs in found.outputs.values():
        failures |= outputs.failures
    evaluation = Evaluation(
        model=model,
        weights=None if weights is None else str(weights),
        data=str(data),
        classes=found.dataset.classes,
        splits=found.splits,
        unreadable=found.dataset.unreadable,
        failures=failures,
        versions=found.models.versions,
        notes=(*_notes(evaluated, found.models), *found.notes),
    )
    if html is not None or out is not None:
        progress("report", "drawing pictures")
        pages.write(
            evaluation, found.readers, found.outputs, seed=seed, page=optional_path(html),
            folder=optional_path(out),
        )  # fmt: skip
    return evaluation


@dataclass(frozen=True)
class _Plan:
    """What is evaluated; `threads` and `workers` are None where the user does not say them."""

    model: EvaluatedModel
    request: ModelRequest
    read_images: Callable[[], LabelledImages]
    threads: int | None
    batch: int
    exact: bool
    workers: int | None
    timeout: float

    def complete_request(self, dataset: LabelledImages) -> ModelRequest:
        """Return the request with the sizes of the data, and the threads of each runtime."""
        return replace(
            self.request,
            spec=self.model.spec(len(dataset.classes), dataset.channels),
            threads=self.count_threads(),
            input_shape=find_input_shape(self.model),
            data=DataImages(dataset.channels, find_image_size(next(iter(dataset.splits.values())))),
        )

    def count_threads(self) -> int:
        """Return the threads of each runtime."""
        if self.threads is not None:
            return self.threads
        return share_threads(len(self.request.first_children))

    def plan_batches(self, images: Images) -> BatchPlan:
        return BatchPlan(len(images.labels), self.batch, shuffle=False)

    def sample(self, plan: BatchPlan) -> Collection[int]:
        """Return the passes on which the float64 reference runs."""
        return sample_passes(plan.steps, every=self.exact)

    def count_workers(self, dataset: LabelledImages) -> int:
        if self.workers is not None:
            return self.workers
        from_files = any(isinstance(images, FileImages) for images in dataset.splits.values())
        return default_workers(from_files=from_files)


@dataclass(frozen=True)
class _Found:
    """What was computed: readers, outputs and results of each split, in order."""

    dataset: LabelledImages
    models: LoadedModels
    readers: Mapping[str, BatchReader]
    outputs: Mapping[str, Outputs]
    splits: tuple[SplitResult, ...]
    notes: tuple[str, ...] = ()


def _evaluate_here(plan: _Plan, progress: Progress) -> _Found:
    """Evaluate all images in one set of children of this process."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary.working_folder())
        gpu = plan.request.device == "gpu"
        children = stack.enter_context(
            Children(python=plan.request.python, timeout=plan.timeout, gpu=gpu)
        )
        # They import their frameworks while the images are read.
        children.start(plan.request.first_children)
        dataset = plan.read_images()
        models = load_models(plan.complete_request(dataset), children, folder, progress)
        require_working_runtime(models)
        preprocessing = plan.model.preprocessing(models.input_shape)
        readers = {
            name: BatchReader(images, plan.plan_batches(images), preprocessing)
            for name, images in dataset.splits.items()
        }
        workers = plan.count_workers(dataset)
        loader = stack.enter_context(open_loader(folder, workers=workers))
        passes = Passes(models, children, loader, folder, progress)
        outputs: dict[str, Outputs] = {}
        splits = []
        for name, reader in readers.items():
            outputs[name] = passes.run(reader, sampled=plan.sample(reader.plan))
            require_working_runtime(models, outputs[name])
            splits.append(_judge(name, outputs[name], reader, passes, dataset, models.reference))
    return _Found(dataset, models, readers, outputs, tuple(splits))


def _evaluate_on(plan: _Plan, progress: Progress, *, on: str, jobs: int | None) -> _Found:
    """Evaluate shards of the images in the processes of an executor.

    Every pass has the images and the threads that it has without shards, so that no figure
    changes.
    """
    if on == LOCAL and jobs is None:
        jobs = count_processes(plan.count_threads() * len(plan.request.first_children))
    readers: dict[str, BatchReader] = {}
    outputs: dict[str, Outputs] = {}
    splits = []
    # A cluster that cannot be reached is noticed before the images are read.
    with open_executor(on, factory=FACTORY, threads=0, count=jobs) as executor:
        dataset = plan.read_images()
        settings = ShardSettings(
            request=plan.complete_request(dataset),
            model=plan.model,
            folder=str(Path.cwd()),
            batch=plan.batch,
            workers=plan.count_workers(dataset),
            timeout=plan.timeout,
        )
        passes = ShardedPasses(executor, settings, progress)
        for name, images in dataset.splits.items():
            batches = plan.plan_batches(images)
            outputs[name] = passes.run(images, batches, sampled=plan.sample(batches))
            models = passes.models
            require_working_runtime(models, outputs[name])
            preprocessing = plan.model.preprocessing(models.input_shape)
            readers[name] = BatchReader(images, batches, preprocessing)
            splits.append(
                _judge(name, outputs[name], readers[name], passes, dataset, models.reference)
            )
    notes = tuple(passes.describe_other_versions())
    return _Found(dataset, passes.models, readers, outputs, tuple(splits), notes)


def _judge(
    name: str,
    outputs: Outputs,
    reader: BatchReader,
    passes: ReferencePasses,
    dataset: LabelledImages,
    reference: Predictor | None,
) -> SplitResult:
    """Return the figures of a split; raises `InputError` for data of other classes."""
    judging.require_classes(outputs, dataset.classes, dataset.name)
    judging.drop_non_finite(outputs, reader)
    runtime = None if reference is None else reference.child
    return judging.judge_split(name, outputs, reader, passes, dataset.classes, runtime=runtime)


def _notes(model: EvaluatedModel, models: LoadedModels) -> tuple[str, ...]:
    notes = [*models.notes]
    if not model.classes:
        notes.append(
            "the checkpoint does not tell its classes: those of the data were taken, in the order "
            "of their names"
        )
    if models.reference is None:
        labels = ", ".join(registry.label(name) for name in registry.model_runtimes())
        notes.append(f"no float64 reference: it needs a model of {labels}")
    return tuple(notes)
