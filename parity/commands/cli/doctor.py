"""The command `parity doctor`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from typing import Annotated

import typer

from parity.commands.cli import console, panels
from parity.commands.cli.arguments import Device, PythonOption
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress


def doctor(
    device: Annotated[
        Device,
        typer.Option(
            help="The device that every runtime must be able to use.", rich_help_panel=panels.WHERE
        ),
    ] = Device.auto,
    python: PythonOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=panels.OUTPUTS)
    ] = False,
) -> None:
    """Print versions, devices and flags, what is missing, and who else owns parity's import names.

    Exits with 0 if nothing is missing and the names are its own, otherwise with 3.
    """
    with handle_errors():
        from parity.commands import doctor as doctors
        from parity.processes import interpreters

        with show_progress() as update_progress:
            update_progress("doctor", "starting every runtime")
            status = doctors.inspect_machine(
                device=device.value, python=interpreters.resolve_interpreters(python or [])
            )
        if as_json:
            console.print_json(status.to_json())
        else:
            typer.echo("\n".join(doctors.format_status(status)))
        raise typer.Exit(status.exit_code)


COMMANDS = (
    Command(doctor, place=80, examples=("parity doctor", "parity doctor --device gpu --json")),
)
