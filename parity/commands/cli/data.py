"""The command `parity data`: data sets that need no download."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors

app = typer.Typer(
    help="Write out data sets that need no download.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _data() -> None:
    """Write out data sets that need no download."""


@app.command(epilog="Example: parity data digits digits")
def digits(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    seed: arguments.SeedOption = 0,
) -> None:
    """Write scikit-learn's 1,797 handwritten digits as an image folder, train/ and val/."""
    with handle_errors():
        from parity.commands import data

        count = data.write_digits(folder, seed=seed)
        typer.echo(f"{folder}: {count:,} images of 10 classes, in train/ and val/")


COMMANDS = (Command(app, place=95, name="data"),)
