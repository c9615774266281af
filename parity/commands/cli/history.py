"""The command `parity history`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors

if TYPE_CHECKING:
    from parity.commands.history import History, Series


def history(
    lock_files: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOCKFILE",
            help="One lock file, read from git, or several in order of their age.",
        ),
    ],
    git: Annotated[
        bool,
        typer.Option(
            "--git",
            help="Read the versions from git: the default for one file.",
            rich_help_panel=panels.WHAT,
        ),
    ] = False,
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Show only this case. Repeatable.", rich_help_panel=panels.WHAT
        ),
    ] = None,
    last: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Columns of the table: the newest versions.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = 6,
    svg: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw all versions as an SVG file.", rich_help_panel=panels.OUTPUTS
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=panels.OUTPUTS)
    ] = False,
) -> None:
    """Show the figures of a lock file over time, and mark regressions.

    A figure is the largest error of a case and subject, in units of the rounding floor. ▲ marks a
    version in which a stage's error is more than twice that of the version before; | one from which
    on another model, weights, input or depth is compared. `parity check --update` writes the file.
    """
    with handle_errors():
        from parity.commands import history as histories

        found = histories.history(*lock_files, git=git, cases=case or (), svg=svg)
        if as_json:
            console.print_json(found.to_json())
        else:
            _print_table(found, last)
            for series, regression in found.regressions:
                print(f"▲ {histories.describe_regression(found, series, regression)}")
        for note in found.notes:
            console.print_note(note)
        raise typer.Exit(0)


def _print_table(found: "History", last: int) -> None:
    first = max(0, len(found.versions) - last)
    if first:
        print(f"{len(found.versions)} versions; the newest {last}:")
    headings = [each.label for each in found.versions[first:]]
    dates = [each.date[:10] for each in found.versions[first:]]
    # Two files may have the same name, and a column is aligned by its own.
    right = [*headings, "change"]
    rows = [["", "", *dates, ""]] if any(dates) else []
    for series in found.series:
        cells = [_format_cell(series, at) for at in range(first, len(found.versions))]
        change = series.change
        rows.append(
            [
                series.case,
                series.subject,
                *cells,
                "" if change is None else f"{change:.2f}×",
            ]
        )
    console.print_table(["case", "subject", *headings, "change"], rows, right=right)
    print()


def _format_cell(series: "Series", version: int) -> str:
    figure = series.figures[version]
    if figure is None:
        return "-"
    mark = ""
    if any(each.version == version for each in series.regressions):
        mark = "▲ "
    elif version in (series.breaks or {}):
        mark = "| "
    return f"{mark}{figure:.2f}"


COMMANDS = (
    Command(
        history,
        place=92,
        examples=(
            "parity history parity.lock.json",
            "parity history parity.lock.json --svg history.svg --case resnet18",
            "parity history old.lock.json new.lock.json --json",
        ),
    ),
)
