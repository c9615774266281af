"""`parity.train`: train a model in Keras and PyTorch, on the same arrays."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import safetensors.numpy

from parity import temporary
from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    parse_image_size,
)
from parity.comparison.checkpoints import convert_checkpoint, detect_format
from parity.comparison.placement import (
    DeviceRequest,
    Placement,
    confirm_devices,
    place_subjects,
)
from parity.defaults import SAVE_SECONDS, VALIDATION_SHARE
from parity.errors import RequirementError, UsageError, WeightError
from parity.explain.training import explain_step
from parity.network import architectures, weights
from parity.network.table import LayerTable
from parity.numerics.losses import LOSSES
from parity.processes import gpus, registry
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.references import parse_reference, split_name
from parity.text import quote
from parity.training import configuration as configurations
from parity.training import initialization
from parity.training.callbacks import Callbacks, EarlyStopping, EpochMetrics, Plateau
from parity.training.configuration import DEVICES, PRECISIONS, Configuration
from parity.training.data.augmentation import Augmentation
from parity.training.data.batches import Preprocessing
from parity.training.data.images import FileImages, find_image_size
from parity.training.data.loading import BatchLoader, default_workers, open_loader
from parity.training.data.sources import DIGITS, open_dataset
from parity.training.graph_models import GraphModelRequest, load_graph_models, name_run
from parity.training.loop import Loop, Readers
from parity.training.models import TrainedModel, replace_kernels
from parity.training.optimizers import Optimizer
from parity.training.result import TrainingResult, add_band, summarize_run
from parity.training.run_folder import RunFolder, RunProgress
from parity.training.run_verification import RunVerifier
from parity.training.schedules import Schedule
from parity.training.verification import REFERENCE


@show_in_notebooks
def train(
    model: str | Sequence[str],
    *,
    learning_rate: float,
    data: str | Path = DIGITS,
    epochs: int = 10,
    batch: int = 32,
    accumulate: int = 1,
    optimizer: str = "adam",
    framework: str | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    rho: float = 0.9,
    epsilon: float = 1e-7,
    weight_decay: float = 0.0,
    decay_all: bool = False,
    l2: float = 0.0,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    schedule: Schedule | None = None,
    plateau: Plateau | bool | None = None,
    early_stopping: EarlyStopping | bool | None = None,
    augmentation: Augmentation | None = None,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
    loss: str = LOSSES[0],
    label_smoothing: float = 0.0,
    init: str = initialization.DEFAULT,
    seed: int = 0,
    classes: int | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    validation_share: float = VALIDATION_SHARE,
    drop_last: bool = False,
    skip_unreadable: bool = False,
    validate_on_test: bool = False,
    initial_epoch: int = 0,
    formats: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    save_seconds: float = SAVE_SECONDS,
    verify: bool = False,
    every: int | None = None,
    band: int = 0,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    device: str = DEVICES[0],
    precision: str = PRECISIONS[0],
    threads: int | None = None,
    workers: int | None = None,
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a model in Keras and PyTorch: the same start, the same batches.

    Each framework computes its own step: Keras's compiled train step and PyTorch's autograd and
    `torch.optim`; on the CPU in float32 unless others are asked for.

    Parameters:
        model: An architecture that `parity models` lists; or a reference to any classifier of
            images, which is trained in its framework; or two references, one for each framework,
            whose weights are paired.
        learning_rate: The learning rate that the schedule starts from.
        data: An image folder with a sub-folder for each class (or train/, val/ and test/ with
            them), a folder of IDX files, or "digits", the 1,797 of scikit-learn.
        epochs, batch: The number of epochs, and of images in a batch.
        accumulate: The number of batches of a step, whose gradient is the mean of theirs. The last
            step of an epoch may have fewer; `drop_last` leaves it out.
        optimizer: "sgd", "adam", "adamw" or "rmsprop"; `parity.training.optimizers` defines them.
        framework: "keras" or "torch"; both by default.
        momentum, nesterov, beta_1, beta_2, rho, epsilon: The optimizer's hyperparameters.
        weight_decay, l2, decay_all: The decoupled decay of adamw, or what is added to the gradient
            by the others; whether they apply to biases and normalisations too.
        clip_value, clip_norm: Limits on each gradient's values, or on the norm of all gradients.
        schedule: The learning rate by step; constant by default.
        plateau, early_stopping: The callbacks; by default they have the defaults of their classes,
            and `plateau` is left out with a schedule. False is without.
        augmentation: Random changes of the training images; none by default.
        mean, deviation: Subtracted from the pixels, which are 0 to 1, and then divided by.
        loss: "cross-entropy" (from logits), "cross-entropy-of-probabilities" or
            "mean-squared-error" (of the one-hot label).
        label_smoothing: The share of each label that is spread over all classes.
        init: "default" (the own initialisers of PyTorch, or of Keras if it is alone),
            "glorot-uniform", "xavier-uniform", "he-normal", or a checkpoint. For references the
            default is what PyTorch's model is built with, or the one model there is; another
            reference may be given, whose weights are copied.
        seed: The seed of weights, order, augmentation and split.
        classes, channels: Those of the data by default.
        image_size: In pixels: 224, "96x128" or (height, width); the architecture's by default.
        validation_share: The share of the training images that validates, without val/.
        drop_last: Whether the last batch of an epoch is left out if it is smaller.
        skip_unreadable: Whether images that cannot be read are left out instead of an error.
        validate_on_test: Whether the test images validate, and all training images train.
        initial_epoch: The epochs that were trained before with the weights of `init`; `epochs`
            counts them.
        formats: Suffixes of files in which the last and the best model are written, too: ".h5",
            ".keras", ".weights.h5", ".pth".
        out: The run's folder, runs/MODEL by default.
        resume: Whether to go on with the run in `out`; the other parameters are those of the run.
        save_seconds: The time after which the state is saved within an epoch.
        verify: Whether to compare single steps, each from PyTorch's state, in float64, in
            float32 and in bfloat16 of such a run: the first three and a few later ones. It
            needs both frameworks.
        band: The number of further runs of PyTorch, whose steps have rounding noise and permuted
            batches: the range of their curves shows what rounding alone does. It is no part of the
            verdict.
        every: Compare every `every`-th step instead, from the first on.
        trust, custom_objects: As for `parity.compare`.
        device: "cpu" or "gpu", of both frameworks. The reference of `verify` is on the CPU.
        precision: "float32"; or "float16" or "bfloat16" for mixed precision, in which products and
            convolutions are computed. Weights, slots and checkpoints stay float32, and `verify`
            compares the steps of bfloat16 in that, too.
        threads: The threads of each framework; by default the cores, shared.
        workers: The processes that load images; by default none for images in memory.
        python: The interpreters of runtimes: {"keras": "envs/keras"}.
        timeout: The time limit of one request to a framework, in seconds.
        progress: A function that is called with a runtime and what it is doing now.

    Raises `UsageError` and `ArchitectureError` for parameters that contradict one another or the
    run in `out`, `InputError` for data that cannot be trained on, `WeightError` for a checkpoint
    that does not fit, `OutputError` for a folder that cannot be written, `RequirementError` without
    a framework or a GPU, `TrainingError` for a loss that is not finite: the last saved state is
    then kept.

    Example:
        >>> import parity
        >>> run = parity.train("resnet18", data="digits", image_size=32, learning_rate=1e-3)
        >>> run.frameworks[0].best_accuracy > 0.95
        True
    """
    started = time.monotonic()
    progress = progress or no_progress
    references = (model,) if isinstance(model, str) else tuple(model)
    is_registered = _is_registered(references)
    frameworks = _parse_frameworks(framework)
    steps = Optimizer(
        name=optimizer,
        learning_rate=learning_rate,
        momentum=momentum,
        nesterov=nesterov,
        beta_1=beta_1,
        beta_2=beta_2,
        rho=rho,
        epsilon=epsilon,
        weight_decay=weight_decay,
        decay_all=decay_all,
        l2=l2,
        clip_value=clip_value,
        clip_norm=clip_norm,
    )
    if every is not None and (every < 1 or not verify):
        raise UsageError(f"--every {every}: needs --verify, and a whole number above 0")
    if is_registered:
        _require_sides(frameworks, verify=verify, band=band)
    elif verify and len(references) < 2:
        raise UsageError("--verify: compares the steps of both frameworks; give a model of each")
    schedule = schedule or Schedule()
    callbacks = _choose_callbacks(schedule, plateau, early_stopping)
    size = parse_image_size(image_size)
    if is_registered:
        _parse_formats(formats, frameworks)
        # An unknown model is refused before the data are read.
        architectures.get(references[0], classes=classes, image_size=size, channels=channels)
    initial_weights = _identify_weights(init, any_reference=not is_registered)
    progress("data", "reading images")
    dataset = open_dataset(
        data,
        seed=seed,
        validation_share=validation_share,
        skip_unreadable=skip_unreadable,
        validate_on_test=validate_on_test,
    )
    found = len(dataset.classes)
    if classes is not None and classes != found:
        raise UsageError(f"--classes {classes}: {dataset.name} has {found} classes; leave it out")

    def configure(trained: TrainedModel) -> Configuration:
        return Configuration(
            model=trained,
            data=dataset,
            preprocessing=Preprocessing(
                trained.image_size, trained.channels, tuple(mean), tuple(deviation)
            ),
            optimizer=steps,
            schedule=schedule,
            callbacks=callbacks,
            augmentation=augmentation or Augmentation(),
            epochs=epochs,
            batch=batch,
            seed=seed,
            validation_share=validation_share,
            drop_last=drop_last,
            loss=loss,
            label_smoothing=label_smoothing,
            initial_weights=initial_weights,
            frameworks=trained.frameworks,
            threads=_share_cores(len(trained.frameworks)) if threads is None else threads,
            initial_epoch=initial_epoch,
            accumulate=accumulate,
            device=device,
            precision=precision,
        )

    interpreters = find_interpreters(python)
    configuration: Configuration | None = None
    if is_registered:
        spec = architectures.get(
            references[0], classes=found, image_size=size, channels=channels or dataset.channels
        )
        configuration = configure(TrainedModel.of_spec(spec, frameworks))
        name = spec.name
        placement = _place(frameworks, device, precision, interpreters)
    else:
        # What is wrong with the other parameters is said before a framework starts.
        configure(_placeholder(references, channels or dataset.channels))
        name = name_run(references)
        # The frameworks of the references are known once they are read.
        _require_gpu(device)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / name)
    if configuration is not None:
        saved = _open_folder(folder, configuration, resume=resume)
    elif resume:
        folder.read_configuration()
    else:
        folder.require_free(registry.model_runtimes())
    if workers is None:
        workers = default_workers(from_files=isinstance(dataset.training, FileImages))
    with ExitStack() as stack:
        working_folder = stack.enter_context(temporary.working_folder())
        children = stack.enter_context(
            Children(python=interpreters, timeout=timeout, gpu=device == "gpu")
        )
        if configuration is None:
            trained = load_graph_models(
                GraphModelRequest(
                    references,
                    classes=found,
                    data=dataset.name,
                    data_channels=dataset.channels,
                    data_size=find_image_size(dataset.training),
                    image_size=size,
                    channels=channels,
                    init=_find_source(init),
                    seed=seed,
                    threads=_share_cores(len(references)) if threads is None else threads,
                    trust=tuple(map(str, trust)),
                    custom_objects=None if custom_objects is None else str(custom_objects),
                ),
                children,
                working_folder,
                progress,
            )
            if framework is not None and trained.frameworks != frameworks:
                raise UsageError(
                    f"--framework {framework}: the models are of "
                    f"{' and '.join(trained.frameworks)}; leave it out"
                )
            frameworks = trained.frameworks
            _require_sides(frameworks, verify=verify, band=band)
            configuration = configure(trained)
            placement = _place(frameworks, device, precision, interpreters, trained.children)
            saved = _open_folder(folder, configuration, resume=resume)
        suffixes = _parse_formats(formats, frameworks)
        names = {name: configuration.model.children.get(name, name) for name in frameworks}
        children.start(names.values())
        confirm_devices(placement, _request_devices(names, device), children)
        pool = stack.enter_context(children.threads(len(frameworks)))
        own = {name: children[child] for name, child in names.items()}
        folder.write_description(configuration.description)
        if configuration.model.spec is not None:
            _load_models(configuration, children, folder, pool, init, progress)
        else:
            _start_models(configuration, own, folder, init)
        loader = stack.enter_context(open_loader(working_folder, workers=workers))
        verifier = None
        if verify:
            verifier = RunVerifier(
                configuration,
                own,
                pool,
                Readers.of(configuration).training,
                folder=working_folder,
                results=folder.verification,
                every=every,
                explain=explain_step,
                progress=progress,
            )
        loop = Loop(
            configuration,
            own,
            folder,
            loader,
            pool,
            save_seconds=save_seconds,
            progress=progress,
            verifier=verifier,
        )
        finished = loop.run(loop.prepare(saved))
        _write_model_files(folder, suffixes, own, progress)
        replicates = [
            _train_replicate(
                configuration, own, folder, loader, pool, number, working_folder, progress
            )
            for number in range(1, band + 1)
        ]
    compared = () if verifier is None else tuple(verifier.steps.values())
    seconds = time.monotonic() - started
    result = summarize_run(configuration, folder, finished, compared, seconds)
    return add_band(result, replicates) if replicates else result


def _place(
    frameworks: Sequence[str],
    device: str,
    precision: str,
    python: Mapping[str, str],
    children: Mapping[str, str] | None = None,
) -> Placement:
    """Raise `RequirementError` for a GPU, `UsageError` for a precision that is not there."""
    names = {name: (children or {}).get(name, name) for name in frameworks}
    return place_subjects(_request_devices(names, device), precision=precision, python=python)


def _require_gpu(device: str) -> None:
    """Raise `RequirementError` if a GPU is asked for and there is none."""
    if device != "gpu":
        return
    try:
        gpus.find_gpu()
    except RequirementError as error:
        raise RequirementError(f"--device gpu: {error}; leave it out to use the CPU") from None


def _request_devices(children: Mapping[str, str], device: str) -> list[DeviceRequest]:
    return [DeviceRequest(name, name, child, device) for name, child in children.items()]


def default_folder(models: Sequence[str]) -> Path:
    """Return the folder of a run that names none: runs/ and the models' names."""
    return Path("runs") / (models[0] if _is_registered(models) else name_run(models))


def _is_registered(models: Sequence[str]) -> bool:
    """Return whether the one model is a registered architecture, or no reference to anything else.

    Raises `UsageError` for no model.
    """
    if not models:
        raise UsageError("nothing to train: give a model")
    if len(models) > 1:
        return False
    return models[0] in architectures.all_names() or not re.search(r"[:./\\,=]", models[0])


def _placeholder(references: Sequence[str], channels: int) -> TrainedModel:
    """Return a model of which nothing is known yet. Raises for a text that is no reference."""
    for text in references:
        parse_reference(split_name(text)[1])
    return TrainedModel(
        " ".join(references), LayerTable(()), {}, (32, 32), channels, registry.model_runtimes()
    )


def _require_sides(frameworks: Sequence[str], *, verify: bool, band: int) -> None:
    """Raise `UsageError` for a comparison without the frameworks that it needs."""
    if band < 0 or (band and REFERENCE not in frameworks):
        raise UsageError(f"--band {band}: runs of torch, 0 or more; leave out --framework")
    if verify and len(frameworks) < 2:
        raise UsageError("--verify: compares the steps of both frameworks; leave out --framework")


def _find_source(init: str) -> str | None:
    """Return the checkpoint or reference whose weights are the start; None for a scheme."""
    is_scheme = init == initialization.DEFAULT or init in initialization.SCHEMES
    return None if is_scheme else init


def _start_models(
    configuration: Configuration, own: Mapping[str, Child], folder: RunFolder, init: str
) -> None:
    """Give models that references name the initial weights of the run, which are written once.

    Raises `WeightError` for a weight without a partner.
    """
    model = configuration.model
    for name, child in own.items():
        child.call("use_layout", layout=model.layouts[name].to_json())
    if not folder.initial_weights.is_file():
        first = REFERENCE if REFERENCE in own else next(iter(own))
        own[first].call("save_trained_weights", path=str(folder.initial_weights), metadata={})
        if init in initialization.SCHEMES:
            if first != REFERENCE:
                raise UsageError(f"--init {init}: draws kernels of PyTorch's models; give default")
            values = safetensors.numpy.load_file(folder.initial_weights)
            drawn = initialization.draw(None, init, seed=configuration.seed, table=model.table)
            weights.save(folder.initial_weights, replace_kernels(values, drawn))
    for child in own.values():
        child.call("load_trained_weights", path=str(folder.initial_weights))


def _parse_frameworks(framework: str | None) -> tuple[str, ...]:
    known = registry.model_runtimes()
    if framework is None:
        return known
    if framework not in known:
        raise UsageError(f"--framework: expected {' or '.join(known)}, found {quote(framework)}")
    return (framework,)


def _parse_formats(formats: Sequence[str], frameworks: Sequence[str]) -> dict[str, str]:
    """Return {suffix: framework} of the model files to write. Raises `UsageError`."""
    known = registry.model_file_runtimes()
    found = {}
    for text in formats:
        suffix = f".{text.strip().lstrip('.')}"
        if known.get(suffix) not in frameworks:
            fitting = [name for name, runtime in known.items() if runtime in frameworks]
            raise UsageError(f"--format: expected {', '.join(fitting)}, found {quote(text)}")
        found[suffix] = known[suffix]
    return found


def _write_model_files(
    folder: RunFolder,
    suffixes: Mapping[str, str],
    children: Mapping[str, Child],
    progress: Progress,
) -> None:
    """Write the last and the best model of each framework in further formats."""
    for suffix, name in suffixes.items():
        for checkpoint in ("last", "best"):
            source = folder.checkpoint(name, checkpoint)
            target = source.with_name(checkpoint + suffix)
            progress(name, f"writing {target.name}")
            children[name].call("save_model_file", source=str(source), path=str(target))


def _choose_callbacks(
    schedule: Schedule,
    plateau: Plateau | bool | None,
    early_stopping: EarlyStopping | bool | None,
) -> Callbacks:
    if plateau is None:
        plateau = schedule.name == "constant"
    if early_stopping is None:
        early_stopping = True
    if isinstance(plateau, bool):
        plateau = Plateau() if plateau else None
    if isinstance(early_stopping, bool):
        early_stopping = EarlyStopping() if early_stopping else None
    return Callbacks(plateau, early_stopping)


def _identify_weights(init: str, *, any_reference: bool = False) -> str:
    """Return a scheme's name, the hash of a checkpoint's bytes, or a reference as it was given.

    Raises `UsageError` for anything else.
    """
    if init == initialization.DEFAULT or init in initialization.SCHEMES:
        return init
    if any_reference and not Path(init).is_file() and re.search(r"[:./\\,]", init):
        parse_reference(init)
        return init
    if not Path(init).is_file():
        schemes = ", ".join((initialization.DEFAULT, *initialization.SCHEMES))
        raise UsageError(f"--init {quote(init)}: expected {schemes}, or a checkpoint that exists")
    if _model_file_runtime(init) is None and not any_reference:
        detect_format(init)
    import hashlib

    with Path(init).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _share_cores(frameworks: int) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (available or 1) // frameworks)


def _open_folder(
    folder: RunFolder, configuration: Configuration, *, resume: bool
) -> RunProgress | None:
    """Make the folder of a new run, or read the progress of the one that is there."""
    if not resume:
        folder.create(configuration.frameworks, configuration.to_json())
        return None
    saved = folder.read_configuration()
    progress = folder.read_progress()
    configurations.require_same(
        saved,
        configuration,
        where=str(folder.path),
        epochs_done=0 if progress is None else progress.epoch - 1,
    )
    folder.delete_incomplete_files(configuration.frameworks)
    if progress is not None:
        folder.delete_other_states(progress)
    folder.write_configuration(configuration.to_json())
    return progress


def _load_models(
    configuration: Configuration,
    children: Children,
    folder: RunFolder,
    pool: ThreadPoolExecutor,
    init: str,
    progress: Progress,
) -> None:
    """Draw the initial weights once, and load them into every framework's model."""
    spec, frameworks = configuration.model.spec, configuration.frameworks
    assert spec is not None
    table = configuration.table

    def load(name: str) -> None:
        progress(name, f"building {spec.name}")
        children[name].hello()
        children[name].call("set_threads", count=configuration.threads)

    list(pool.map(load, frameworks))
    if not folder.initial_weights.is_file():
        if init in initialization.SCHEMES:
            values = initialization.draw(spec, init, seed=configuration.seed, table=table)
            weights.save(folder.initial_weights, values)
        elif init == initialization.DEFAULT:
            preferred = [n for n in registry.reference_candidates() if n in frameworks]
            children[preferred[0]].call(
                "save_initial_weights",
                spec=spec.to_json(),
                table=table.to_json(),
                seed=configuration.seed,
                path=str(folder.initial_weights),
            )
        else:
            if not Path(init).is_file():
                raise WeightError(f"{init}: no such file")
            runtime = _model_file_runtime(init)
            if runtime is not None:
                _read_model_file(init, runtime, configuration, children, folder.initial_weights)
            else:
                convert_checkpoint(
                    spec, Path(init), folder.initial_weights, children, progress, table=table
                )
    weights.load(folder.initial_weights, table)

    def fill(name: str) -> None:
        children[name].call("load", spec=spec.to_json())
        children[name].call("use_table", table=table.to_json())
        children[name].call("load_weights", path=str(folder.initial_weights))
        progress(name, "done")

    list(pool.map(fill, frameworks))


def _model_file_runtime(init: str) -> str | None:
    """Return the runtime of a file that holds a whole model and is no checkpoint; else None."""
    for name, info in registry.all_runtimes().items():
        if init.endswith(info.written_suffixes) and not init.endswith(info.checkpoint_suffixes):
            return name
    return None


def _read_model_file(
    init: str, runtime: str, configuration: Configuration, children: Children, target: Path
) -> None:
    """Write the weights of a whole model, found by its layers' names, in canonical form."""
    if runtime not in configuration.frameworks:
        raise UsageError(f"--init {quote(init)}: is a model of {registry.label(runtime)}, which is "
                         "not trained")  # fmt: skip
    child = children[runtime]
    child.call("load_reference", reference=parse_reference(init).to_json())
    child.call("use_table", table=configuration.table.to_json())
    child.call("save_weights", path=str(target))


def _train_replicate(
    configuration: Configuration,
    children: Mapping[str, Child],
    folder: RunFolder,
    loader: BatchLoader,
    pool: ThreadPoolExecutor,
    number: int,
    working_folder: Path,
    progress: Progress,
) -> tuple[EpochMetrics, ...]:
    """Train the reference once more, with noise in every step; return its epochs."""
    child = children[REFERENCE]
    child.call("load_trained_weights", path=str(folder.initial_weights))
    own = RunFolder(working_folder / f"replicate-{number}")
    own.create((REFERENCE,), {})
    loop = Loop(
        configuration,
        {REFERENCE: child},
        own,
        loader,
        pool,
        save_seconds=math.inf,
        progress=lambda name, what: progress(f"replicate {number}", what),
        noise=number,
    )
    finished = loop.run(loop.prepare(None))
    progress(f"replicate {number}", "done")
    return finished.frameworks[REFERENCE].epochs
