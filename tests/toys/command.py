"""`parity count`, a toy command: how many layers an architecture has."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import typer

from parity.commands.cli import arguments
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors


def count(model: arguments.ModelArgument) -> None:
    """Count the layers of an architecture."""
    with handle_errors():
        from parity.network import architectures

        typer.echo(len(architectures.get(model).table().rows))


COMMANDS = (Command(count, place=25, examples=("parity count resnet18",)),)
