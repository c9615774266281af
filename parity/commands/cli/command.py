"""The description of a command, and the discovery of all commands.

A module of this package with `COMMANDS`, a tuple of `Command`, adds those commands to the command
line; there is no list of them. The package's other modules are shared by the commands.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from parity.commands import cli
from parity.commands.cli import console, panels

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
        """Write the names and whole summaries, for which no parameters are needed."""
        rows = [(name, _summarise(self.commands[name].help)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class GroupedCommand(TyperCommand):
    """A command whose help sorts its options into groups and lists its examples one a line."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, and the options by their groups; `--help` comes last."""
        arguments: list[tuple[str, str]] = []
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in panels.ORDER}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(record)
            else:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                groups.setdefault(panel, []).append(record)
        for title, records in {"Arguments": arguments, **groups}.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they would be typed: none is wrapped or joined to another."""
        examples = (self.epilog or "").splitlines()
        if examples:
            with formatter.section("Example" if len(examples) == 1 else "Examples"):
                for example in examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print the result alone: no progress, no notes, no tables.",
        rich_help_panel=panels.OUTPUTS,
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print each step on standard error, with its time.",
        rich_help_panel=panels.OUTPUTS,
    ),
]


def _with_verbosity(call: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--quiet` and `--verbose` to a command."""

    @functools.wraps(call)
    def with_options(*, quiet: bool = False, verbose: bool = False, **values: Any) -> Any:
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose contradict each other")
        console.verbosity = console.QUIET if quiet else console.VERBOSE if verbose else ""
        return call(**values)

    signature = inspect.signature(call)
    parameters = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values()
    ]
    for name, kind in (("quiet", QuietOption), ("verbose", VerboseOption)):
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, keyword, default=False, annotation=kind))
    # Typer reads the options from the signature and their types from the annotations.
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def _summarise(text: str | None) -> str:
    """Return the first sentence of a help text, whole."""
    paragraph = " ".join((text or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "." if paragraph else ""


def _add_command(app: typer.Typer, command: Command) -> None:
    """Add a command to `app`."""
    if isinstance(command.call, typer.Typer):
        app.add_typer(command.call, name=command.name)
        return
    app.command(
        command.invoked_name, cls=GroupedCommand, epilog="\n".join(command.examples) or None
    )(_with_verbosity(command.call))
