"""The command `parity sweep`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console, panels, report_options
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors, report_error
from parity.commands.cli.progress import show_progress
from parity.errors import OutputError, UsageError

if TYPE_CHECKING:
    from parity.report.grid import SweepResult

MOST_PROBLEMS = 30
"""Cells that are explained on the terminal; the report files have all of them."""


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file.")] = Path(
        "sweep.toml"
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of the results; by default sweeps/NAME.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Where cells run: local, ray or ray:ADDRESS.",
            rich_help_panel=panels.WHERE,
        ),
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Cells side by side; by default what the machine allows.",
            rich_help_panel=panels.WHERE,
        ),
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Save the figures in NAME.lock.json.", rich_help_panel=panels.OUTPUTS
        ),
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the whole result as JSON; - prints it.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a line of JSON for each cell; - prints them.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the heat map; each cell opens its page.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
) -> None:
    """Compare a grid of models, environments, devices, precisions and inputs.

    A cell is run only if something has changed that its result depends on. Exits with the worst
    result: 1 if a cell differs or exceeds its locked figures, 3 if one could not be decided.
    """
    with handle_errors():
        from parity.commands import sweep as sweeping

        reports = {"json": json, "jsonl": jsonl, "html": html}
        given = {name: path for name, path in reports.items() if path is not None}
        if html == report_options.STDOUT:
            raise UsageError("--html: expected a file, since a folder of pages belongs to it")
        report_options.require_writable(given, [file])
        try:
            with show_progress() as update_progress:
                result = sweeping.sweep(
                    file, out=out, on=on, jobs=jobs, update=update, progress=update_progress
                )
        except KeyboardInterrupt:
            folder = out if out is not None else sweeping.find_folder(file)
            if any((folder / "cells").glob("*.json")):
                console.print_note(
                    f"the cells that have ended are stored in {folder}; the same command goes on "
                    "from there"
                )
            raise
        for name, path in given.items():
            _write(result, name, path)
        if report_options.STDOUT not in given.values():
            _print_result(result)
        for note in result.notes:
            console.print_note(note)
        raise typer.Exit(result.exit_code)


def _write(result: "SweepResult", name: str, path: Path) -> None:
    """Write or print a report; the verdict stands if it cannot be written."""
    from parity import files
    from parity.report import grid, grid_page

    try:
        if name == "html":
            grid_page.write_pages(result, path)
            return
        text = grid.render_json(result) if name == "json" else grid.render_lines(result)
        if path == report_options.STDOUT:
            print(text, end="")
        else:
            files.write_text(path, text)
    except OutputError as error:
        report_error(str(error))


def _print_result(result: "SweepResult") -> None:
    from parity.report import grid
    from parity.report.model import Verdict

    arranged = grid.arrange_grid(result.cells)
    console.print_table(
        ["model", *(" ".join(column) for column in arranged.columns)],
        [[model, *map(grid.describe_cell, cells)] for model, cells in arranged.rows],
    )
    problems = [(cell, grid.describe_problem(cell)) for cell in result.cells]
    problems = [(cell, sentences) for cell, sentences in problems if sentences]
    for cell, sentences in problems[:MOST_PROBLEMS]:
        print(f"\n{cell.name}")
        for sentence in sentences:
            print(f"  {sentence}")
    if len(problems) > MOST_PROBLEMS:
        print(f"\nand {len(problems) - MOST_PROBLEMS} more cells; --json has all of them")
    agree = sum(cell.verdict is Verdict.PARITY for cell in result.cells)
    stored = sum(cell.is_stored for cell in result.cells)
    parts = [f"{agree} of {len(result.cells)} cells agree", f"{result.seconds:.1f} s"]
    if stored:
        parts.append(f"{stored} stored before")
    installing = sum(result.installing.values())
    if installing >= 0.05:
        parts.append(f"{installing:.1f} s of it for environments")
    if result.lock_file:
        parts.append(f"locked figures in {result.lock_file}")
    console.stdout_console().print(f"\n{', '.join(parts)}; results in {result.folder}")


COMMANDS = (
    Command(
        sweep,
        place=91,
        examples=(
            "parity sweep",
            "parity sweep zoo.toml --html zoo.html --jsonl zoo.jsonl",
            "parity sweep zoo.toml --on ray:10.0.0.1:6379",
        ),
    ),
)
