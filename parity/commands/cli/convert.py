"""The command `parity convert`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments, console
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.processes import registry


def convert(
    model: arguments.ModelArgument,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The checkpoint to write.")],
    weights: Annotated[
        Path,
        typer.Option(
            help=f"The checkpoint to read: .safetensors {' '.join(registry.checkpoint_suffixes())}"
        ),
    ],
    classes: arguments.ClassesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    python: arguments.PythonOption = None,
) -> None:
    """Convert a checkpoint to another format, bit for bit.

    Complete in both directions: a weight that is missing, unused or of another shape is an error.
    """
    with handle_errors():
        from parity.commands import convert as converting
        from parity.processes.interpreters import resolve_interpreters

        with show_progress() as update_progress:
            conversion = converting.convert(
                model,
                weights,
                target,
                classes=classes,
                image_size=image_size,
                channels=channels,
                python=resolve_interpreters(python or []),
                progress=update_progress,
            )
        for note in conversion.notes:
            console.print_note(note)
        console.stdout_console().print(
            f"{conversion.target}: {conversion.tensors} tensors, "
            f"{conversion.parameters:,} parameters, sha256 {conversion.sha256[:12]}\n"
            "verified: read back and equal bit for bit"
        )


COMMANDS = (
    Command(
        convert,
        place=40,
        examples=(
            "parity convert resnext50_32x4d --weights r.pth r.weights.h5",
            "parity convert resnet18 --weights r.keras r.safetensors --classes 10",
        ),
    ),
)
