"""The command `parity export`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            autocompletion=arguments.complete_reference,
            help="A registered architecture (see `parity models`), or any Keras or PyTorch model: "
            "file.py:build, module:build, a model file (.keras .h5 .pt2), keras:ResNet50, "
            "torchvision:resnet50, timm:resnet50, hf:FOLDER. Arguments follow a comma.",
        ),
    ],
    onnx: Annotated[
        Path,
        typer.Option(metavar="OUT", help="The ONNX file to write.", rich_help_panel=panels.OUTPUTS),
    ],
    side: Annotated[
        arguments.Framework | None,
        typer.Option(
            "--from",
            help="The framework to export a registered architecture from.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    weights: arguments.CheckpointOption = None,
    input: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]F.npy",
            help="An example of an input, for a PyTorch module that has none. Repeatable.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    shape: arguments.ShapeOption = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=AXIS[:SIZE],…",
            help="Axes of an input whose size varies beside the batch; batch as SIZE is another "
            "axis of the batch. Repeatable.",
            rich_help_panel=panels.EXPORT,
        ),
    ] = None,
    fixed_batch: Annotated[
        bool,
        typer.Option(
            "--fixed-batch", help="The batch does not vary.", rich_help_panel=panels.EXPORT
        ),
    ] = False,
    opset: arguments.OpsetOption = None,
    precision: Annotated[
        arguments.ExportPrecision,
        typer.Option(
            help="float16: compute in float16, but for what exceeds its range; inputs and outputs "
            "stay as they are.",
            rich_help_panel=panels.EXPORT,
        ),
    ] = arguments.ExportPrecision.float32,
    external_data: Annotated[
        bool,
        typer.Option(
            "--external-data",
            help="Write the weights to OUT.data; above 2 GB this is automatic.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="F.json",
            help="Write what was verified, and how, to this file.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|scale|none|keras:NAME",
            help="State in the file what the model's pixels go through; known of a training run's "
            "checkpoint and of keras:NAME.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="State the class names, one a line or JSON, in the file.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    stage_outputs: Annotated[
        bool,
        typer.Option(
            "--stage-outputs",
            help="Also output every stage's tensor, in its framework's axis order.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = False,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    seed: arguments.SeedOption = 0,
    classes: arguments.ClassesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    cache: arguments.CacheOption = True,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
) -> None:
    """Export a model to ONNX and verify the file.

    The file passes the ONNX checker and shape inference, loads in ONNX Runtime, and computes the
    framework's outputs at N = 1, 2 and 3, at other sizes that vary, and on extreme inputs.
    Otherwise there is an error and no file.
    """
    with handle_errors():
        from parity.commands import export as exporting
        from parity.commands.cli.progress import show_progress
        from parity.commands.values import parse_dynamic, parse_inputs, parse_shapes
        from parity.processes.interpreters import resolve_interpreters
        from parity.text import format_size

        plain, named = parse_inputs(input or ())
        with show_progress() as update_progress:
            result = exporting.export(
                model,
                onnx,
                side=None if side is None else str(side),
                weights=weights,
                opset=opset,
                stage_outputs=stage_outputs,
                seed=seed,
                classes=classes,
                image_size=image_size,
                channels=channels,
                input=plain,
                inputs=dict(named),
                shapes=parse_shapes(shape or ()),
                dynamic=parse_dynamic(dynamic or ()),
                fixed_batch=fixed_batch,
                precision=precision.value,
                external_data=external_data,
                record=record,
                preprocess=preprocess,
                labels=labels,
                trust=trust or (),
                custom_objects=custom_objects,
                cache=cache,
                python=resolve_interpreters(python or []),
                timeout=timeout,
                progress=update_progress,
            )
        for note in result.notes:
            console.print_note(note)
        worst = max(check["max_abs"] for check in result.checks)
        batches = ", ".join(map(str, result.batches))
        console.stdout_console().print(
            f"{result.path}: {format_size(result.bytes)}, opset {result.opset}, outputs "
            f"{', '.join(result.outputs)}\nverified: loads in ONNX Runtime; within rounding of "
            f"{result.side} at N = {batches}; the largest difference is {worst:.2e} on usual inputs"
        )


COMMANDS = (
    Command(
        export,
        place=50,
        examples=(
            "parity export --onnx r.onnx resnext50_32x4d --from keras",
            "parity export --onnx r.onnx resnet18 --from torch --weights r.pth --stage-outputs",
            "parity export --onnx net.onnx net.py:build --dynamic x=2,3 --record net.json",
        ),
    ),
)
