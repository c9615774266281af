"""The terminal: standard output and error, tables and notes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from parity.commands.cli import outlet
from parity.text import find_unfiltered

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


QUIET, VERBOSE = "quiet", "verbose"

verbosity = ""
"""How much a command prints beside its result: `QUIET`, `VERBOSE` or, by default, the usual."""

_LEAST_WIDTH = 40
"""Columns of a terminal that states fewer."""


def stdout_console(*, width: int | None = None) -> Console:
    """Return the console for results; its lines are not wrapped when it is not a terminal."""
    return make_console(sys.stdout, soft_wrap=not sys.stdout.isatty(), width=width)


def stderr_console() -> Console:
    """Return the console for errors, notes and progress."""
    return make_console(sys.stderr, soft_wrap=True)


def make_console(stream: TextIO, *, soft_wrap: bool = False, width: int | None = None) -> Console:
    """Return a console that escapes texts, so that control sequences are Rich's own."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class EscapingConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else outlet.escape(text), style, control)

        def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
            return super().render_str(outlet.shorten(text), **options)

        def on_broken_pipe(self) -> None:
            """Go on: Rich would end the process with exit code 1."""

    console = EscapingConsole(
        file=find_unfiltered(stream), highlight=False, soft_wrap=soft_wrap, width=width
    )
    if console.width < _LEAST_WIDTH:
        # As COLUMNS=0 says; Rich would print nothing.
        console.width = _LEAST_WIDTH
    return console


def print_table(
    names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """Print a table without borders; the columns named in `right` are aligned to the right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(outlet.shorten(outlet.escape(cell))) for cell in row))
    # No cell is truncated: a pipe has no width, and a terminal wraps long lines.
    wide = stdout_console(width=10_000)
    with wide.capture() as output:
        wide.print(table)
    print("\n".join(line.rstrip() for line in output.get().splitlines()))


def print_json(data: object) -> None:
    """Print plain data as indented JSON."""
    import json

    print(json.dumps(data, indent=2))


def print_note(text: str) -> None:
    """Print a note on standard error, unless the command is to be quiet."""
    if verbosity != QUIET:
        print_message("note", "dim", text)


def print_message(label: str, style: str, text: str) -> None:
    """Print a text on one line of standard error, after a label in this Rich style."""
    from rich.text import Text

    line = outlet.shorten(" ".join(text.split()))
    stderr_console().print(Text.assemble((f"{label}:", style), " ", line))
