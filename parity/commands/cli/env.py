"""The command `parity env`: separate environments for runtimes that cannot share one."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.processes import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parity.processes.environments import Environment

app = typer.Typer(
    help="Create and list environments, one for each runtime.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="DIR",
        help="The folder of the environments.",
        rich_help_panel=panels.WHERE,
    ),
]


@app.command(
    epilog="Examples: parity env create · parity env create keras torch --gpu · "
    "parity env create old=torch==2.9.1"
)
def create(
    runtimes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]RUNTIME[==VERSION]...",
            help=f"{', '.join(registry.installable_runtimes())}; by default all.",
        ),
    ] = None,
    gpu: Annotated[
        bool,
        typer.Option(
            "--gpu", help="Install the builds for NVIDIA GPUs.", rich_help_panel=panels.WHERE
        ),
    ] = False,
    folder: Folder = None,
) -> None:
    """Create environments, each with one runtime and this parity.

    Uses uv if it is installed, else venv and pip.
    """
    with handle_errors():
        from parity.processes import environments

        names = runtimes or registry.installable_runtimes()
        requests = list(map(environments.parse_environment_request, names))
        with show_progress() as update_progress:
            new = environments.create_environments(
                requests, gpu=gpu, folder=folder, progress=update_progress
            )
        _print_environments(new)
        typer.echo("\nto use them, add to parity.toml:\n\n[environments]")
        for each in new:
            typer.echo(f'{each.name} = "{each.path}"')


@app.command("list", epilog="Example: parity env list --json")
def list_(
    folder: Folder = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=panels.OUTPUTS)
    ] = False,
) -> None:
    """List the environments and their packages."""
    with handle_errors():
        from parity.processes import environments

        known = environments.list_environments(folder)
        if as_json:
            console.print_json([each.to_json() for each in known])
        elif known:
            _print_environments(known)
        else:
            typer.echo("no environments; `parity env create` creates them")


def _print_environments(environments: "Sequence[Environment]") -> None:
    console.print_table(
        ["name", "runtime", "versions", "path"],
        [
            [
                each.name,
                (each.runtime or "any") + (", GPU" if each.gpu else ""),
                each.problem or ", ".join(f"{n} {v}" for n, v in (each.versions or {}).items()),
                each.path,
            ]
            for each in environments
        ],
    )


COMMANDS = (Command(app, place=100, name="env"),)
