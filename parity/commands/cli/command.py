"""What a module of this package states of its commands, and how those modules are found.

A module with `COMMANDS`, a tuple of `Command`, adds those commands to the command line; it is in no
list. The other modules here serve them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from parity.commands import cli

__all__ = ["Command", "add_to", "find"]


@dataclass(frozen=True)
class Command:
    """A function that is `parity NAME`, or a Typer whose commands are `parity NAME SUBCOMMAND`.

    `place` orders the commands in `parity --help`; Typer puts those with subcommands last. The name
    is the function's unless one is given. `examples` are command lines, which its help shows.
    """

    call: Callable[..., Any] | typer.Typer
    place: int
    examples: tuple[str, ...] = ()
    name: str | None = None


def find() -> list[Command]:
    """Import the modules of this package, and return the commands that they state, in order."""
    found: list[Command] = []
    for module in pkgutil.iter_modules(cli.__path__):
        found += getattr(importlib.import_module(f"{cli.__name__}.{module.name}"), "COMMANDS", ())
    return sorted(found, key=lambda command: command.place)


def add_to(app: typer.Typer) -> None:
    """Add every command to `app`."""
    for command in find():
        if isinstance(command.call, typer.Typer):
            app.add_typer(command.call, name=command.name)
            continue
        word = "Example" if len(command.examples) == 1 else "Examples"
        epilog = f"{word}: {' · '.join(command.examples)}" if command.examples else None
        app.command(command.name, epilog=epilog)(command.call)
