"""The terminal: standard output and error, tables, notes and the display of a report."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from parity.report.model import Report


def stdout_console() -> Console:
    """Return the console for results; its lines are not wrapped when it is not a terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr_console() -> Console:
    """Return the console for errors, notes and progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_table(
    names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """Print a table without borders; the columns named in `right` are aligned to the right."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    # No cell is truncated: a pipe has no width, and a terminal wraps long lines.
    wide = Console(highlight=False, width=10_000)
    with wide.capture() as output:
        wide.print(table)
    print("\n".join(line.rstrip() for line in output.get().splitlines()))


def print_json(data: object) -> None:
    """Print plain data as indented JSON."""
    import json

    print(json.dumps(data, indent=2))


def show_report(report: Report, reports: Mapping[str, Path]) -> None:
    """Write the report files, and print the table unless one of them is printed (`-`)."""
    from rich.console import Console

    from parity.commands.cli import report_options
    from parity.report import terminal

    if not report_options.write(report, reports):
        terminal.render(report, Console(highlight=False))


def print_note(text: str) -> None:
    """Print a note on standard error."""
    print_message("note", "dim", text)


def print_message(label: str, style: str, text: str) -> None:
    """Print a text on one line of standard error, after a label in this Rich style."""
    from rich.text import Text

    stderr_console().print(Text.assemble((f"{label}:", style), " ", " ".join(text.split())))
