"""The command `parity convert`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress


def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|REF",
            autocompletion=arguments.complete_reference,
            help="A registered architecture, or any model as `parity compare` takes it.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The checkpoint to write.")],
    weights: arguments.CheckpointOption = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="The model, of any framework, whose checkpoint is written; by default the first.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    input: arguments.InputOption = None,
    shape: arguments.ShapeOption = None,
    seed: arguments.SeedOption = 0,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    classes: arguments.ClassesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    timeout: arguments.TimeoutOption = 900.0,
    python: arguments.PythonOption = None,
) -> None:
    """Convert a model's weights to another format, or into another model, bit for bit.

    Complete in both directions: a weight that is missing, unused or of another shape is an error.
    With --into the layers of both models are paired, and the weights get the axes of the other.
    """
    with handle_errors():
        from parity.commands import convert as converting
        from parity.commands.values import parse_inputs, parse_shapes
        from parity.processes.interpreters import resolve_interpreters

        plain, named = parse_inputs(input or ())
        with show_progress() as update_progress:
            conversion = converting.convert(
                model,
                weights,
                target,
                into=into,
                input=plain,
                inputs=dict(named),
                shapes=parse_shapes(shape or ()),
                seed=seed,
                trust=tuple(trust or ()),
                custom_objects=custom_objects,
                timeout=timeout,
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
        if conversion.difference:
            console.print_note(conversion.difference)
            raise typer.Exit(1)


COMMANDS = (
    Command(
        convert,
        place=40,
        examples=(
            "parity convert resnext50_32x4d --weights r.pth r.weights.h5",
            "parity convert resnet18 --weights r.keras r.safetensors --classes 10",
            "parity convert net.py:build --into keras_net.py:build net.weights.h5",
            "parity convert keras:ResNet50,weights=F.h5 --into keras_net.py:build net.keras",
        ),
    ),
)
