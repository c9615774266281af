"""The description of a command, and the discovery of all commands.

A module of this package with `COMMANDS`, a tuple of `Command`, adds those commands to the command
line; there is no list of them. The package's other modules are shared by the commands.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from parity.commands import cli

__all__ = ["Command", "add_commands", "find_commands"]


@dataclass(frozen=True)
class Command:
    """A function for `parity NAME`, or a Typer whose commands are `parity NAME SUBCOMMAND`.

    `place` orders the commands in `parity --help`; Typer puts those with subcommands last. The
    default `name` is the function's. `examples` are command lines, which the help shows.
    """

    call: Callable[..., Any] | typer.Typer
    place: int
    examples: tuple[str, ...] = ()
    name: str | None = None


def find_commands() -> list[Command]:
    """Import all modules of this package, and return their commands in order of `place`."""
    commands: list[Command] = []
    for module in pkgutil.iter_modules(cli.__path__):
        contents = importlib.import_module(f"{cli.__name__}.{module.name}")
        commands += getattr(contents, "COMMANDS", ())
    return sorted(commands, key=lambda command: command.place)


def add_commands(app: typer.Typer) -> None:
    """Add every command to `app`."""
    for command in find_commands():
        if isinstance(command.call, typer.Typer):
            app.add_typer(command.call, name=command.name)
            continue
        label = "Example" if len(command.examples) == 1 else "Examples"
        epilog = f"{label}: {' · '.join(command.examples)}" if command.examples else None
        app.command(command.name, epilog=epilog)(command.call)
