"""The command `parity export`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments, console
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress


def export(
    model: arguments.ModelArgument,
    onnx: Annotated[Path, typer.Option(metavar="OUT", help="The ONNX file to write.")],
    side: Annotated[
        arguments.Framework, typer.Option("--from", help="The framework to export from.")
    ],
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint; by default seeded random weights.")
    ] = None,
    opset: arguments.OpsetOption = None,
    stage_outputs: Annotated[
        bool,
        typer.Option(
            "--stage-outputs",
            help="Also output every stage's tensor, in its framework's axis order.",
        ),
    ] = False,
    seed: arguments.SeedOption = 0,
    classes: arguments.ClassesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    cache: arguments.CacheOption = True,
    python: arguments.PythonOption = None,
) -> None:
    """Export a model to ONNX and verify the file.

    The file passes the ONNX checker and shape inference, loads in ONNX Runtime, and computes the
    framework's outputs at N = 1, 2 and 3. Otherwise there is an error and no file.
    """
    with handle_errors():
        from parity.commands import export as exporting
        from parity.processes.interpreters import resolve_interpreters

        with show_progress() as update_progress:
            result = exporting.export(
                model,
                onnx,
                side=str(side),
                weights=weights,
                opset=opset,
                stage_outputs=stage_outputs,
                seed=seed,
                classes=classes,
                image_size=image_size,
                channels=channels,
                cache=cache,
                python=resolve_interpreters(python or []),
                progress=update_progress,
            )
        for note in result.notes:
            console.print_note(note)
        worst = max(check["max_abs"] for check in result.checks)
        batches = ", ".join(str(n) for n in sorted({check["batch"] for check in result.checks}))
        console.stdout_console().print(
            f"{result.path}: {result.bytes / 1e6:.1f} MB, opset {result.opset}, outputs "
            f"{', '.join(result.outputs)}\nverified: loads in ONNX Runtime; at N = {batches} the "
            f"largest difference from {result.side} is {worst:.2e}, within rounding"
        )


COMMANDS = (
    Command(
        export,
        place=50,
        examples=(
            "parity export --onnx r.onnx resnext50_32x4d --from keras",
            "parity export --onnx r.onnx resnet18 --from torch --weights r.pth --stage-outputs",
        ),
    ),
)
