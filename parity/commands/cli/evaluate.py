"""The commands `parity evaluate` and `parity predict`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.defaults import PASS_BATCH, TOP, VALIDATION_SHARE

if TYPE_CHECKING:
    from parity.commands.predict import PredictionResult
    from parity.evaluation.results import Evaluation, SplitResult

SHOWN = 20
"""The images with changed labels that are printed; the JSON and the page have all."""


class SplitName(StrEnum):
    """The part of the data that is evaluated."""

    training = "training"
    validation = "validation"
    test = "test"
    all = "all"


ModelOption = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="A registered architecture, or any classifier of images: file.py:build, a model file, "
        "torchvision:resnet50.",
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|digits",
        help="An image folder, with a sub-folder for each class, or with train/, val/, test/; "
        "a folder of IDX files; or scikit-learn's digits.",
        rich_help_panel=panels.WHAT,
    ),
]
SplitOption = Annotated[
    SplitName | None,
    typer.Option(
        help="The images; by default validation and test, or all.", rich_help_panel=panels.WHAT
    ),
]
RuntimesOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,…",
        help="The runtimes: keras,torch,onnx-keras,onnx-torch.",
        rich_help_panel=panels.WHAT,
    ),
]
MeanOption = Annotated[
    str,
    typer.Option(
        metavar="M[,M,M]",
        help="Mean of the pixels, 0 to 1, by channel.",
        rich_help_panel=panels.WHAT,
    ),
]
DeviationOption = Annotated[
    str,
    typer.Option(
        metavar="D[,D,D]",
        help="Standard deviation of the pixels, by channel.",
        rich_help_panel=panels.WHAT,
    ),
]
ShareOption = Annotated[
    float,
    typer.Option(
        help="Share of the images that validates, without val/.", rich_help_panel=panels.WHAT
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the report as JSON; - prints it.",
        rich_help_panel=panels.OUTPUTS,
    ),
]


def evaluate(
    model: ModelOption,
    data: Annotated[
        str,
        typer.Option(
            metavar="DIR|digits",
            help="An image folder, with a sub-folder for each class, or with train/, val/, test/; "
            "a folder of IDX files; or scikit-learn's digits.",
            rich_help_panel=panels.WHAT,
        ),
    ],
    weights: arguments.CheckpointOption = None,
    split: SplitOption = None,
    subjects: RuntimesOption = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Run the float64 reference on every pass.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = False,
    batch: Annotated[
        int, typer.Option(help="Number of images in a batch.", rich_help_panel=panels.WHAT)
    ] = PASS_BATCH,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    mean: MeanOption = "",
    deviation: DeviationOption = "",
    seed: arguments.SeedOption = 0,
    validation_share: ShareOption = VALIDATION_SHARE,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Exit 0 although images cannot be read.",
            rich_help_panel=panels.WHAT,
        ),
    ] = False,
    json: JsonOption = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the report as HTML.", rich_help_panel=panels.OUTPUTS
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write JSON, page, pictures and all predictions here.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    device: arguments.FixedDeviceOption = arguments.FixedDevice.cpu,
    threads: arguments.ThreadsOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images.", rich_help_panel=panels.WHERE)
    ] = None,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Where shards of the images run: local, ray or ray:ADDRESS; by default one "
            "process runs all.",
            rich_help_panel=panels.WHERE,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Shards side by side; by default what the machine allows.",
            rich_help_panel=panels.WHERE,
        ),
    ] = None,
) -> None:
    """Run labelled images through every runtime: figures, and labels that change.

    Loss, top-1, top-5 and the confusion matrix of Keras, PyTorch and both ONNX graphs; the images
    whose label is not the same in all of them, with margins and the runtime that is right. The
    float64 reference runs on a sample of the passes and on those images. Exit code 1: a label
    changes; 3: a runtime failed, or an image could not be read.
    """
    with handle_errors():
        from parity.commands import evaluate as evaluating
        from parity.commands.cli.train import parse_numbers
        from parity.commands.outputs import require_outputs
        from parity.processes.interpreters import resolve_interpreters

        require_outputs(
            [_file(json), html], [model, custom_objects], data=data, weights=weights, folder=out
        )
        _require_json(json)
        with show_progress() as update_progress:
            found = evaluating.evaluate(
                model,
                data=data,
                weights=weights,
                split=None if split is None else split.value,
                subjects=subjects,
                exact=exact,
                batch=batch,
                image_size=image_size,
                channels=channels,
                mean=parse_numbers("--mean", mean),
                deviation=parse_numbers("--deviation", deviation),
                seed=seed,
                validation_share=validation_share,
                trust=trust or (),
                custom_objects=custom_objects,
                device=device.value,
                threads=threads,
                workers=workers,
                python=resolve_interpreters(python or []),
                timeout=timeout,
                html=html,
                out=out,
                on=on,
                jobs=jobs,
                progress=update_progress,
            )
        for note in found.notes:
            console.print_note(note)
        if not _write_json(json, found.to_json()):
            _print_evaluation(found)
        for reason in found.unreadable:
            console.print_note(f"left out: {reason}")
        for name, reason in found.failures.items():
            console.print_message("failed", "bold red", f"{name}: {reason}")
        code = found.exit_code
        if code == 3 and skip_unreadable and not found.failures:
            code = 0
        if code:
            raise typer.Exit(code)


def predict(
    model: ModelOption,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE...", help="Image files.")
    ] = None,
    weights: arguments.CheckpointOption = None,
    data: DataOption = None,
    split: SplitOption = None,
    samples: Annotated[
        int, typer.Option(help="Number of images of --data.", rich_help_panel=panels.WHAT)
    ] = 5,
    top: Annotated[
        int, typer.Option(help="Number of classes for each image.", rich_help_panel=panels.OUTPUTS)
    ] = TOP,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the images with true class, predicted class and probability (.png .svg).",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    subjects: RuntimesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    mean: MeanOption = "",
    deviation: DeviationOption = "",
    seed: arguments.SeedOption = 0,
    validation_share: ShareOption = VALIDATION_SHARE,
    json: JsonOption = None,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    device: arguments.FixedDeviceOption = arguments.FixedDevice.cpu,
    threads: arguments.ThreadsOption = None,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
) -> None:
    """Print the class names and probabilities of images, in every runtime.

    Exit code 1: a label is not the same in all runtimes; 3: a runtime failed, or an image could
    not be read.
    """
    with handle_errors():
        from parity.commands import predict as predicting
        from parity.commands.cli.train import parse_numbers
        from parity.commands.outputs import require_outputs
        from parity.processes.interpreters import resolve_interpreters

        read = [model, *(images or ()), custom_objects]
        require_outputs([_file(json)], read, data=data, weights=weights)
        _require_json(json)
        with show_progress() as update_progress:
            found = predicting.predict(
                model,
                *(images or ()),
                weights=weights,
                data=data,
                split=None if split is None else split.value,
                samples=samples,
                top=top,
                picture=picture,
                subjects=subjects,
                image_size=image_size,
                channels=channels,
                mean=parse_numbers("--mean", mean),
                deviation=parse_numbers("--deviation", deviation),
                seed=seed,
                validation_share=validation_share,
                trust=trust or (),
                custom_objects=custom_objects,
                device=device.value,
                threads=threads,
                python=resolve_interpreters(python or []),
                timeout=timeout,
                progress=update_progress,
            )
        for note in found.notes:
            console.print_note(note)
        if not _write_json(json, found.to_json()):
            _print_predictions(found)
        for reason in found.unreadable:
            console.print_note(f"left out: {reason}")
        for name, reason in found.failures.items():
            console.print_message("failed", "bold red", f"{name}: {reason}")
        if found.exit_code:
            raise typer.Exit(found.exit_code)


def _file(path: Path | None) -> Path | None:
    """Return the file of --json; None where it is printed."""
    return None if path is not None and str(path) == "-" else path


def _require_json(path: Path | None) -> None:
    """Raise `OutputError` if the name of the file of --json says another format."""
    from parity import files

    if path is not None and str(path) != "-":
        files.require_suffix(path, ".json")


def _write_json(path: Path | None, data: object) -> bool:
    """Write a JSON document; return whether it was printed."""
    import json

    from parity import files

    if path is None:
        return False
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if str(path) == "-":
        typer.echo(text, nl=False)
        return True
    files.write_text(path, text)
    return False


def _print_evaluation(evaluation: "Evaluation") -> None:
    for split in evaluation.splits:
        typer.echo(f"{split.name}: {split.images:,} images, {len(evaluation.classes)} classes\n")
        _print_figures(split)
        _print_changes(split)
        typer.echo("")
    left_out = len(evaluation.unreadable)
    if left_out:
        typer.echo(f"{left_out} image{'' if left_out == 1 else 's'} could not be read")
    typer.echo(
        f"{evaluation.changed} image{'' if evaluation.changed == 1 else 's'} with another label in "
        "one runtime than in another"
        if evaluation.changed
        else "every image has the same label in all runtimes"
    )


def _print_figures(split: "SplitResult") -> None:
    columns = ["runtime", "loss", "top-1", "top-5", "largest error", "seconds"]
    rows = []
    for name, scores in split.scores.items():
        error = None if split.reference is None else split.reference.largest_error.get(name)
        rows.append(
            [
                name,
                f"{scores.loss:.4f}",
                f"{scores.top1:.2%}",
                f"{scores.top5:.2%}",
                "–" if error is None else f"{error:.1e}",
                f"{split.seconds[name]:.1f}",
            ]
        )
    console.print_table(columns, rows, right=columns[1:])
    if split.reference is not None:
        sample = split.reference
        typer.echo(
            f"\nfloat64 reference ({sample.runtime}) on {sample.passes} of {sample.all_passes} "
            f"passes, {sample.images} images; their smallest margin is {sample.smallest_margin:.2g}"
        )


def _print_changes(split: "SplitResult") -> None:
    if not split.changed:
        return
    runtimes = list(split.scores)
    rows = []
    for image in split.changed[:SHOWN]:
        row = [image.name, image.true]
        row += [f"{image.labels[n].name} ({image.labels[n].margin:.2g})" for n in runtimes]
        reference = image.reference
        row.append("not run" if reference is None else f"{reference.name} ({reference.margin:.2g})")
        row.append(", ".join(image.right) or "none")
        rows.append(row)
    typer.echo("\nlabels that change, with margins:")
    console.print_table(["image", "true", *runtimes, "float64", "right"], rows)
    if len(split.changed) > SHOWN:
        typer.echo(f"… and {len(split.changed) - SHOWN} more")


def _print_predictions(result: "PredictionResult") -> None:
    rows = []
    for prediction in result.predictions:
        shown = [prediction.image, prediction.true or "–"]
        for runtime, labels in prediction.labels.items():
            text = ", ".join(f"{label.name} {label.probability:.2%}" for label in labels)
            rows.append([*shown, runtime, text])
            shown = ["", ""]
    console.print_table(["image", "true", "runtime", "predicted"], rows)


COMMANDS = (
    Command(
        evaluate,
        place=56,
        examples=(
            "parity evaluate resnet18 --data digits --weights runs/resnet18/keras/best.safetensors",
            "parity evaluate model.onnx --data photographs --html evaluation.html",
            "parity evaluate model.onnx --data photographs --on ray:10.0.0.1:6379",
        ),
    ),
    Command(
        predict,
        place=57,
        examples=(
            "parity predict resnet18 cat.jpg --weights runs/resnet18/torch/best.safetensors",
            "parity predict resnet18 --data digits --weights best.safetensors --picture p.png",
        ),
    ),
)
