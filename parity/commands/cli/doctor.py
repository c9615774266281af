"""`parity doctor`: what this machine has and lacks, as a command."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import json
from typing import Annotated

import typer

from parity.commands.cli.arguments import Device, Interpreters
from parity.commands.cli.command import Command
from parity.commands.cli.console import guarded, progress


def doctor(
    device: Annotated[Device, typer.Option(help="The device that must be there.")] = Device.auto,
    python: Interpreters = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for a program.")] = False,
) -> None:
    """Print versions, devices, precision flags and the cache, and what is missing.

    Exits 0 if nothing is missing, 3 otherwise.
    """
    with guarded():
        from parity.commands import doctor as doctors
        from parity.processes import interpreters

        with progress() as tell:
            tell("doctor", "asking every runtime")
            status = doctors.inspect_machine(
                device=device.value, python=interpreters.interpreters(python or [])
            )
        if as_json:
            typer.echo(json.dumps(status.to_json(), indent=2))
        else:
            typer.echo("\n".join(doctors.format_lines(status)))
        raise typer.Exit(status.exit_code)


COMMANDS = (
    Command(doctor, place=80, examples=("parity doctor", "parity doctor --device gpu --json")),
)
