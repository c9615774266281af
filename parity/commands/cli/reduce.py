"""The command `parity reduce`."""

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


def reduce(
    right: Annotated[str, typer.Argument(metavar="[NAME=]REF", help="The model that is right.")],
    other: Annotated[str, typer.Argument(metavar="[NAME=]REF", help="The model that differs.")],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE.py", help="The file to write.", rich_help_panel=panels.OUTPUTS),
    ],
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
    """Write the smallest part of two models that shows their difference, for a bug report.

    The file runs by itself, with the weights and one input inside: it prints both errors and the
    rounding floor, and exits with 1. It is written only if it shows the difference that the whole
    models have. Exit codes: 0 no difference, 1 written, 2 bad input, 3 no part shows it.
    """
    with handle_errors():
        from parity.commands.reduce import reduce_models
        from parity.text import format_number, format_ratio

        request = build_pair_request(
            right,
            other,
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
            reduced = reduce_models(request, out, progress=update_progress)
        stdout = console.stdout_console()
        if reduced.path is None:
            text = reduced.reason if reduced.report.ok else f"not reduced: {reduced.reason}"
            stdout.print(text, markup=False, highlight=False)
            raise typer.Exit(0 if reduced.report.ok else 3)
        for name, labels in (reduced.operations or {}).items():
            stdout.print(f"{name}: {', '.join(labels)}", markup=False, highlight=False)
        times = reduced.error / reduced.floor if reduced.floor else float("inf")
        error = f"{format_number(reduced.error)}, {format_ratio(times)} the floor"
        stdout.print(f"error: max abs {error}", highlight=False)
        for cause in reduced.causes:
            stdout.print(f"why: {cause.statement}", markup=False, highlight=False)
            stdout.print(f"remedy: {cause.remedy}", markup=False, highlight=False)
        stdout.print(f"wrote {reduced.path}", markup=False, highlight=False)
        raise typer.Exit(1)


COMMANDS = (
    Command(
        reduce,
        place=34,
        examples=(
            "parity reduce net.py:keras_model broken.onnx --out bug.py",
            "parity reduce right=net.py:build other.py:Net,weights=net.pth --out bug.py",
        ),
    ),
)
