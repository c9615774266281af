"""`parity env`: environments of their own for runtimes that cannot share one."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console
from parity.commands.cli.command import Command
from parity.commands.cli.console import guarded, progress
from parity.processes import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parity.processes.environments import Environment

app = typer.Typer(
    help="Make and list environments, one for each runtime.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Where environments are kept.")
]


@app.command(
    epilog="Examples: parity env create · parity env create keras torch --gpu · "
    "parity env create old=torch==2.9.1"
)
def create(
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]RUNTIME[==VERSION]...",
            help=f"{', '.join(registry.installable_runtimes())}; all by default.",
        ),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="With the builds for NVIDIA cards.")] = False,
    folder: Folder = None,
) -> None:
    """Make environments, each with one runtime and this parity.

    Uses uv where there is one, else venv and pip.
    """
    with guarded():
        from parity.processes import environments

        names = wanted or registry.installable_runtimes()
        requests = list(map(environments.parse_request, names))
        with progress() as tell:
            made = environments.create_environments(requests, gpu=gpu, folder=folder, progress=tell)
        _show(made)
        typer.echo("\nto use them, in parity.toml:\n\n[environments]")
        for each in made:
            typer.echo(f'{each.name} = "{each.path}"')


@app.command("list", epilog="Example: parity env list --json")
def list_(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for a program.")] = False,
) -> None:
    """Print the environments there are, and what each holds."""
    with guarded():
        from parity.processes import environments

        found = environments.list_environments(folder)
        if as_json:
            typer.echo(json.dumps([each.to_json() for each in found], indent=2))
        elif found:
            _show(found)
        else:
            typer.echo("there are no environments; `parity env create` makes them")


def _show(found: "Sequence[Environment]") -> None:
    console.columns(
        ["name", "runtime", "versions", "path"],
        [
            [
                each.name,
                (each.runtime or "any") + (", GPU" if each.gpu else ""),
                each.problem or ", ".join(f"{n} {v}" for n, v in (each.versions or {}).items()),
                each.path,
            ]
            for each in found
        ],
    )


COMMANDS = (Command(app, place=100, name="env"),)
