"""The description of a command, and the discovery of all commands.

A module of this package with `COMMANDS`, a tuple of `Command`, adds those commands to the command
line; there is no list of them. The package's other modules are shared by the commands.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from parity.commands import cli

__all__ = ["Command", "CommandGroup", "find_commands"]


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

    @property
    def invoked_name(self) -> str:
        """The word by which it is called, after `parity`."""
        if isinstance(self.call, typer.Typer):
            assert self.name is not None, "a Typer has no name of its own"
            return self.name
        return self.name or self.call.__name__.replace("_", "-")

    @property
    def help(self) -> str:
        """The text of its help, above its parameters."""
        if isinstance(self.call, typer.Typer):
            return str(self.call.info.help)
        return inspect.getdoc(self.call) or ""


def find_commands() -> list[Command]:
    """Import all modules of this package, and return their commands in order of `place`."""
    commands: list[Command] = []
    for module in pkgutil.iter_modules(cli.__path__):
        contents = importlib.import_module(f"{cli.__name__}.{module.name}")
        commands += getattr(contents, "COMMANDS", ())
    return sorted(commands, key=lambda command: command.place)


class CommandGroup(TyperGroup):
    """The found commands; Typer reads a command's parameters when that command is asked for.

    Reading those of all commands takes as long as importing them, and `parity --help` shows none.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._found = {command.invoked_name: command for command in find_commands()}
        self.commands.update(
            {name: TyperCommand(name, help=each.help) for name, each in self._found.items()}
        )

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command with its parameters; None for an unknown name."""
        command = self._found.get(cmd_name)
        if command is None:
            return super().get_command(ctx, cmd_name)
        app = typer.Typer(rich_markup_mode=None)
        _add_command(app, command)
        return typer.main.get_group(app).commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and summaries, for which no parameters are needed."""
        TyperGroup(commands=dict(self.commands)).format_commands(ctx, formatter)


def _add_command(app: typer.Typer, command: Command) -> None:
    """Add a command to `app`."""
    if isinstance(command.call, typer.Typer):
        app.add_typer(command.call, name=command.name)
        return
    label = "Example" if len(command.examples) == 1 else "Examples"
    epilog = f"{label}: {' · '.join(command.examples)}" if command.examples else None
    app.command(command.name, epilog=epilog)(command.call)
