"""The command `parity train`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.defaults import SAVE_SECONDS, VALIDATION_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parity.training.result import TrainingResult
    from parity.training.verification import VerifiedStep


class OptimizerName(StrEnum):
    """The optimizers; `parity.training.optimizers` defines them."""

    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"
    rmsprop = "rmsprop"


class LossName(StrEnum):
    """The losses; `parity.numerics.losses` defines them."""

    cross_entropy = "cross-entropy"
    cross_entropy_of_probabilities = "cross-entropy-of-probabilities"
    mean_squared_error = "mean-squared-error"


class TrainingPrecision(StrEnum):
    """The precisions; `parity.training.configuration` lists them."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class ScheduleName(StrEnum):
    """The schedules of the learning rate."""

    constant = "constant"
    step = "step"
    cosine = "cosine"


def train(
    model: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A registered architecture; or one or two references, one for each framework: "
            "net.py:build, model.keras, timm:NAME.",
        ),
    ],
    learning_rate: Annotated[
        float, typer.Option(help="The learning rate.", rich_help_panel=panels.TRAINING)
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="DIR|digits",
            help="An image folder, with a sub-folder for each class, or with train/, val/, test/; "
            "a folder of IDX files; or scikit-learn's digits.",
            rich_help_panel=panels.WHAT,
        ),
    ] = "digits",
    epochs: Annotated[
        int, typer.Option(help="Number of epochs.", rich_help_panel=panels.TRAINING)
    ] = 10,
    batch: Annotated[
        int, typer.Option(help="Number of images in a batch.", rich_help_panel=panels.WHAT)
    ] = 32,
    accumulate: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Batches of a step, which takes the mean of their gradients.",
            rich_help_panel=panels.TRAINING,
        ),
    ] = 1,
    optimizer: Annotated[
        OptimizerName, typer.Option(help="The optimizer.", rich_help_panel=panels.TRAINING)
    ] = OptimizerName.adam,
    framework: Annotated[
        arguments.Framework | None,
        typer.Option(
            help="Train in one framework; by default in all.", rich_help_panel=panels.WHERE
        ),
    ] = None,
    momentum: Annotated[
        float, typer.Option(help="Momentum of sgd and rmsprop.", rich_help_panel=panels.TRAINING)
    ] = 0.0,
    nesterov: Annotated[
        bool,
        typer.Option("--nesterov", help="Nesterov's momentum.", rich_help_panel=panels.TRAINING),
    ] = False,
    beta_1: Annotated[
        float,
        typer.Option("--beta-1", help="β₁ of adam and adamw.", rich_help_panel=panels.TRAINING),
    ] = 0.9,
    beta_2: Annotated[
        float,
        typer.Option("--beta-2", help="β₂ of adam and adamw.", rich_help_panel=panels.TRAINING),
    ] = 0.999,
    rho: Annotated[
        float, typer.Option(help="ρ of rmsprop.", rich_help_panel=panels.TRAINING)
    ] = 0.9,
    epsilon: Annotated[
        float, typer.Option(help="ε of adam, adamw and rmsprop.", rich_help_panel=panels.TRAINING)
    ] = 1e-7,
    weight_decay: Annotated[
        float, typer.Option(help="Decoupled decay of adamw.", rich_help_panel=panels.TRAINING)
    ] = 0.0,
    decay_all: Annotated[
        bool,
        typer.Option(
            "--decay-all",
            help="Decay biases and normalisations too.",
            rich_help_panel=panels.TRAINING,
        ),
    ] = False,
    l2: Annotated[
        float,
        typer.Option(
            "--l2",
            help="Added to the gradient: this times the weight.",
            rich_help_panel=panels.TRAINING,
        ),
    ] = 0.0,
    clip_value: Annotated[
        float | None,
        typer.Option(help="Limit of a gradient's values.", rich_help_panel=panels.TRAINING),
    ] = None,
    clip_norm: Annotated[
        float | None,
        typer.Option(help="Limit of all gradients' norm.", rich_help_panel=panels.TRAINING),
    ] = None,
    schedule: Annotated[
        ScheduleName,
        typer.Option(help="Schedule of the learning rate.", rich_help_panel=panels.TRAINING),
    ] = ScheduleName.constant,
    warmup_steps: Annotated[
        int, typer.Option(help="Steps of a linear warm-up.", rich_help_panel=panels.TRAINING)
    ] = 0,
    step_epochs: Annotated[
        int, typer.Option(help="Epochs between two steps of step.", rich_help_panel=panels.TRAINING)
    ] = 10,
    factor: Annotated[
        float, typer.Option(help="Factor of each step of step.", rich_help_panel=panels.TRAINING)
    ] = 0.1,
    minimum_rate: Annotated[
        float, typer.Option(help="End of cosine.", rich_help_panel=panels.TRAINING)
    ] = 0.0,
    plateau: Annotated[
        bool | None,
        typer.Option(
            "--plateau/--no-plateau",
            help="Halve the rate after 3 epochs without a lower validation loss; by default with "
            "the constant schedule.",
            rich_help_panel=panels.TRAINING,
        ),
    ] = None,
    early_stopping: Annotated[
        bool,
        typer.Option(
            "--early-stopping/--no-early-stopping",
            help="Stop after 8 epochs without a lower validation loss, and restore its weights.",
            rich_help_panel=panels.TRAINING,
        ),
    ] = True,
    rotation: Annotated[
        float,
        typer.Option(help="Augmentation: largest angle, degrees.", rich_help_panel=panels.TRAINING),
    ] = 0.0,
    width_shift: Annotated[
        float,
        typer.Option(help="Augmentation: share of the width.", rich_help_panel=panels.TRAINING),
    ] = 0.0,
    height_shift: Annotated[
        float,
        typer.Option(help="Augmentation: share of the height.", rich_help_panel=panels.TRAINING),
    ] = 0.0,
    shear: Annotated[
        float,
        typer.Option(help="Augmentation: largest shear, degrees.", rich_help_panel=panels.TRAINING),
    ] = 0.0,
    zoom: Annotated[
        float,
        typer.Option(help="Augmentation: share of the size.", rich_help_panel=panels.TRAINING),
    ] = 0.0,
    horizontal_flip: Annotated[
        bool,
        typer.Option(
            "--horizontal-flip",
            help="Augmentation: mirror half of the images.",
            rich_help_panel=panels.TRAINING,
        ),
    ] = False,
    mean: Annotated[
        str,
        typer.Option(
            metavar="M[,M,M]",
            help="Mean of the pixels, 0 to 1, by channel.",
            rich_help_panel=panels.WHAT,
        ),
    ] = "",
    deviation: Annotated[
        str,
        typer.Option(
            metavar="D[,D,D]",
            help="Standard deviation of the pixels, by channel.",
            rich_help_panel=panels.WHAT,
        ),
    ] = "",
    loss: Annotated[
        LossName, typer.Option(help="The loss.", rich_help_panel=panels.TRAINING)
    ] = LossName.cross_entropy,
    label_smoothing: Annotated[
        float, typer.Option(help="Share spread over all classes.", rich_help_panel=panels.TRAINING)
    ] = 0.0,
    init: Annotated[
        str,
        typer.Option(
            metavar="SCHEME|FILE|REF",
            help="The start: default, glorot-uniform, xavier-uniform, he-normal, a checkpoint, or "
            "a reference's weights.",
            rich_help_panel=panels.WHAT,
        ),
    ] = "default",
    seed: arguments.SeedOption = 0,
    classes: arguments.ClassesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    validation_share: Annotated[
        float,
        typer.Option(
            help="Share of the images that validates, without val/.", rich_help_panel=panels.WHAT
        ),
    ] = VALIDATION_SHARE,
    drop_last: Annotated[
        bool,
        typer.Option(
            "--drop-last",
            help="Leave out a last batch, or step, that is smaller.",
            rich_help_panel=panels.WHAT,
        ),
    ] = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Leave out images that cannot be read.",
            rich_help_panel=panels.WHAT,
        ),
    ] = False,
    validate_on_test: Annotated[
        bool,
        typer.Option(
            "--validate-on-test", help="Validate on the test images.", rich_help_panel=panels.WHAT
        ),
    ] = False,
    initial_epoch: Annotated[
        int,
        typer.Option(
            help="Epochs that the weights of --init were trained for before.",
            rich_help_panel=panels.WHAT,
        ),
    ] = 0,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar=".h5|.keras|.pth",
            help="Write the last and best models in this format, too. Repeatable.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The run's folder; by default runs/MODEL.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in --out.", rich_help_panel=panels.OUTPUTS
        ),
    ] = False,
    save_seconds: Annotated[
        float,
        typer.Option(
            help="Seconds between two saved states within an epoch.", rich_help_panel=panels.OUTPUTS
        ),
    ] = SAVE_SECONDS,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare single steps, each from PyTorch's state, in float64, float32 and "
            "a run's bfloat16: the first three and a few later ones.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = False,
    every: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Compare every N-th step instead.", rich_help_panel=panels.JUDGED
        ),
    ] = None,
    band: Annotated[
        int,
        typer.Option(
            metavar="RUNS",
            help="Draw the band of further runs of PyTorch that have rounding noise in every step.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = 0,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write the report as JSON.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write the report as HTML.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    device: arguments.FixedDeviceOption = arguments.FixedDevice.cpu,
    precision: Annotated[
        TrainingPrecision,
        typer.Option(
            help="float32, or mixed precision: products in it, weights in float32.",
            rich_help_panel=panels.WHERE,
        ),
    ] = TrainingPrecision.float32,
    threads: arguments.ThreadsOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images.", rich_help_panel=panels.WHERE)
    ] = None,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
) -> None:
    """Train a model in Keras and PyTorch: the same start, the same batches.

    The run's folder holds the last and the best checkpoint of each framework, history.json,
    history.svg, metrics.csv, the configuration, and logs for TensorBoard. A run that ended at any
    moment goes on with --resume, and ends bit for bit as if it had not.
    """
    with handle_errors():
        from parity import files
        from parity.commands import train as training
        from parity.commands.outputs import require_outputs
        from parity.processes import registry
        from parity.processes.interpreters import resolve_interpreters
        from parity.training.data.augmentation import Augmentation
        from parity.training.run_folder import RunFolder
        from parity.training.schedules import Schedule

        run = out if out is not None else training.default_folder(model)
        RunFolder(run).require_other_outputs((json, html), registry.model_runtimes())
        require_outputs([json, html], [init], data=data, folder=run)
        for path, suffix in ((json, ".json"), (html, ".html")):
            if path is not None:
                files.require_suffix(path, suffix)
        with show_progress() as update_progress:
            result = training.train(
                model,
                learning_rate=learning_rate,
                data=data,
                epochs=epochs,
                batch=batch,
                accumulate=accumulate,
                optimizer=optimizer.value,
                framework=None if framework is None else str(framework),
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
                schedule=Schedule(schedule.value, warmup_steps, step_epochs, factor, minimum_rate),
                plateau=plateau,
                early_stopping=early_stopping,
                augmentation=Augmentation(
                    rotation, width_shift, height_shift, shear, zoom, horizontal_flip
                ),
                mean=parse_numbers("--mean", mean),
                deviation=parse_numbers("--deviation", deviation),
                loss=loss.value,
                label_smoothing=label_smoothing,
                init=init,
                seed=seed,
                classes=classes,
                image_size=image_size,
                channels=channels,
                validation_share=validation_share,
                drop_last=drop_last,
                skip_unreadable=skip_unreadable,
                validate_on_test=validate_on_test,
                initial_epoch=initial_epoch,
                formats=format or (),
                out=out,
                resume=resume,
                save_seconds=save_seconds,
                verify=verify,
                every=every,
                band=band,
                trust=trust or (),
                custom_objects=custom_objects,
                device=device.value,
                precision=precision.value,
                threads=threads,
                workers=workers,
                python=resolve_interpreters(python or []),
                timeout=timeout,
                progress=update_progress,
            )
        for note in result.notes:
            console.print_note(note)
        _print_result(result)
        if json is not None or html is not None:
            from parity.report.training import write_html, write_json

            if json is not None:
                write_json(json, result)
            if html is not None:
                write_html(html, result)
        if result.band is not None:
            from parity.training.wording import describe_band

            for line in describe_band(result.inside_band):
                typer.echo(line)
        if result.verified_steps:
            _print_verification(result.verified_steps)
        if not result.agrees:
            raise typer.Exit(3 if result.is_undetermined else 1)


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    from parity.errors import UsageError
    from parity.text import quote

    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(
            f"{option}: expected numbers, separated by commas, found {quote(text)}"
        ) from None


def _format_rate(rate: float) -> str:
    """Return images a second, a small number with two digits."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def _print_result(result: "TrainingResult") -> None:
    columns = ["framework", "epochs", "loss", "accuracy", "val loss", "val accuracy", "best"]
    rows = []
    for each in result.frameworks:
        last = each.epochs[-1]
        stopped = " (stopped early)" if each.stopped_epoch else ""
        rows.append(
            [
                each.framework,
                f"{last.epoch}{stopped}",
                f"{last.loss:.4f}",
                f"{last.accuracy:.2%}",
                f"{last.validation_loss:.4f}",
                f"{last.validation_accuracy:.2%}",
                f"{each.best_accuracy:.2%} in epoch {each.best_epoch}",
                f"{each.seconds:.0f} s",
                _format_rate(each.images / max(each.seconds, 1e-9)),
            ]
        )
    console.print_table([*columns, "training", "images/s"], rows, right=columns[2:6])
    mapping = ", ".join(f"{index} {name}" for index, name in enumerate(result.classes))
    typer.echo(f"\n{len(result.classes)} classes: {mapping}")
    typer.echo(
        f"{result.model}, {result.seconds:.0f} s in all; {result.folder} holds the checkpoints "
        "last and best of each framework, history.json, history.svg and metrics.csv"
    )


def _print_verification(steps: "Sequence[VerifiedStep]") -> None:
    from parity.training.wording import describe_verification, tabulate_verification

    columns, rows = tabulate_verification(steps)
    typer.echo("")
    console.print_table(columns, rows, right=columns[:-1])
    typer.echo("")
    for line in describe_verification(steps):
        typer.echo(line)


COMMANDS = (
    Command(
        train,
        place=55,
        examples=(
            "parity train resnet18 --data digits --image-size 32 --epochs 3 --learning-rate 1e-3",
            "parity train resnet18 --data DIR --learning-rate 0.01 --optimizer sgd --verify",
            "parity train net.py:torch_net net.py:keras_net --learning-rate 1e-3 --verify",
        ),
    ),
)
