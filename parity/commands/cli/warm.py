"""The command `parity warm`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.processes import registry

if TYPE_CHECKING:
    from parity.commands.warm import WarmStatus
    from parity.processes.warm.launch import ServerStatus


def warm(
    runtimes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNTIME]...",
            help=f"{', '.join(registry.frameworks())}; by default all that are installed.",
        ),
    ] = None,
    idle: Annotated[
        float,
        typer.Option(
            metavar="MINUTES", help="End after so long without use.", rich_help_panel=panels.WHERE
        ),
    ] = 15.0,
    stop: Annotated[
        bool, typer.Option("--stop", help="End it now.", rich_help_panel=panels.WHAT)
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Only show what is kept.", rich_help_panel=panels.WHAT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=panels.OUTPUTS)
    ] = False,
) -> None:
    """Keep children that have imported their frameworks, so that later commands start faster.

    A comparison, check or test with the same code and environment variables takes one, uses it
    once, and another is started behind it; nothing that ran is ever used again. It runs in the
    background, for this user alone.
    """
    with handle_errors():
        from parity.commands import warm as warming
        from parity.errors import UsageError

        if stop and (status or runtimes):
            raise UsageError("--stop ends everything; give it alone")
        if status:
            result = warming.read_status()
        else:
            with show_progress() as update_progress:
                result = warming.warm(
                    *(runtimes or ()), idle_minutes=idle, stop=stop, progress=update_progress
                )
        if as_json:
            console.print_json(result.to_json())
        else:
            _print_status(result)


def _print_status(status: "WarmStatus") -> None:
    for server in status.stopped:
        print(f"stopped, process {server.pid}")
    for server in status.servers:
        _print_server(server)
    if not status.servers and not status.stopped:
        print("nothing is kept; `parity warm` starts it")


def _print_server(server: "ServerStatus") -> None:
    kept = ", ".join(f"{runtime} {state}" for runtime, state in server.children.items())
    other = "" if server.current else ", of another version or environment"
    print(
        f"process {server.pid}{other}: {kept or 'no children'}; ends in "
        f"{server.ends_in_s / 60:.0f} min without use, or with `parity warm --stop`"
    )
    if server.differences:
        print(
            f"  not for this shell, which has another {', '.join(server.differences)}; "
            "`parity warm` here replaces it"
        )
    for runtime, reason in server.refused.items():
        print(f"  {runtime} is not kept: {reason}")


COMMANDS = (
    Command(
        warm,
        place=82,
        examples=("parity warm", "parity warm torch onnx --idle 60", "parity warm --stop"),
    ),
)
