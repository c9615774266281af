"""The command `parity fix`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.commands.cli.request_options import build_pair_request
from parity.defaults import LIMIT


def fix(
    right: Annotated[str, typer.Argument(metavar="[NAME=]REF", help="The model that is right.")],
    wrong: Annotated[str, typer.Argument(metavar="[NAME=]REF", help="The model to repair.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="The folder of the new files.", rich_help_panel=panels.OUTPUTS
        ),
    ],
    all_: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Repair until both are in parity or nothing more is proved.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = False,
    weights: arguments.WeightsOption = None,
    input: arguments.InputOption = None,
    shape: arguments.ShapeOption = None,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    seed: arguments.SeedOption = 0,
    batch: arguments.BatchOption = None,
    image_size: arguments.ImageSizeOption = None,
    limit: arguments.LimitOption = LIMIT,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
) -> None:
    """Repair a model whose differences from another one are proved.

    Writes a checkpoint, an ONNX or Keras file, or a patch of your source for `git apply`, into DIR
    alone. A repair is accepted only if the repaired model is in parity, in float32 and in float64,
    on your input and on inputs that the search never saw; nothing is written otherwise. Exit codes:
    0 repaired, 1 not repaired, 2 bad input.
    """
    with handle_errors():
        from parity.commands.fix import fix_models

        request = build_pair_request(
            right,
            wrong,
            input=input,
            shape=shape,
            trust=trust,
            image_size=image_size,
            python=python,
            weights=weights,
            batch=batch,
            custom_objects=custom_objects,
            seed=seed,
            limit=limit,
            timeout=timeout,
        )
        with show_progress() as update_progress:
            repaired = fix_models(request, out, every=all_, progress=update_progress)
        stdout = console.stdout_console()
        for change in repaired.changes:
            text = change if repaired.accepted else f"proved, not accepted: {change}"
            stdout.print(text, markup=False, highlight=False)
        for change in repaired.by_hand:
            stdout.print(f"to change by hand: {change}", markup=False, highlight=False)
        for path in repaired.files:
            stdout.print(f"wrote {path}", markup=False, highlight=False)
        if repaired.reference and repaired.files:
            stdout.print(
                "accepted: in parity in float32 and in float64, on the input of the search and on "
                "inputs that it never saw"
                + (
                    ", with constants that differ by a rounding of float32 made equal in float64"
                    if repaired.shares_constants
                    else ""
                ),
                markup=False,
            )
        elif not repaired.accepted:
            stdout.print(f"not repaired: {repaired.remaining}; nothing was written", markup=False)
        raise typer.Exit(0 if repaired.accepted else 1)


COMMANDS = (
    Command(
        fix,
        place=33,
        examples=(
            "parity fix net.py:keras_model broken.onnx --out repaired",
            "parity fix right.onnx net.py:Net,weights=net.pth --out repaired --all",
        ),
    ),
)
