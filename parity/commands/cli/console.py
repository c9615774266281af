"""What a user sees while a command works, and how an error ends it."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from parity.errors import ParityError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from parity.report.model import Report

INTERRUPTED = "interrupted: nothing was judged, nothing half-written is left"

debug = False
"""Whether errors show their traceback; set by `--debug`."""


def output() -> Console:
    """Where results go; plain text when it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def messages() -> Console:
    """Where errors and progress go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def columns(names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table: framed by space alone, never cut when it goes to a file."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    # No cell is cut: a pipe has no width, and a terminal wraps what does not fit.
    wide = Console(highlight=False, width=10_000)
    with wide.capture() as captured:
        wide.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    print("\n".join(lines))


def show(report: Report, reports: Mapping[str, Path]) -> None:
    """Write the reports asked for, and print the table unless one of them is printed (`-`)."""
    from rich.console import Console

    from parity.commands.cli import report_options
    from parity.report import terminal

    if not report_options.write(report, reports):
        terminal.render(report, Console(highlight=False))


def note(text: str) -> None:
    """Say something that the result alone would not tell, beside the result."""
    _say("note", "dim", text)


@contextmanager
def guarded() -> Iterator[None]:
    """End the command with one line and the right exit code, whatever happens inside."""
    try:
        yield
    except typer.Exit:
        raise
    except ParityError as error:
        _end(error, error.exit_code)
    except KeyboardInterrupt as error:
        _end(error, 3, INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough: `parity models | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(0) from None
    except OSError as error:
        _end(error, 2)
    except Exception as error:  # noqa: BLE001 (the last line of defence: say it in one line)
        _end(error, 3, f"this is a fault of parity itself: {type(error).__name__}: {error}")


def misused(error: Exception) -> int:
    """Say what is wrong with the command line itself, and where its help is; the exit code."""
    # Typer words a value that is not among the choices as Pydantic does.
    text = str(getattr(error, "format_message", lambda: error)()).replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    command = "parity" if context is None else context.command_path
    _say("error", "bold red", f"{text.rstrip('.')}; see '{command} --help'")
    return 2


def interrupted() -> int:
    """Say that a command was interrupted before it had begun; the exit code."""
    _say("error", "bold red", INTERRUPTED)
    return 3


def _end(error: BaseException, code: int, message: str | None = None) -> None:
    if debug:
        # The traceback has the error's notes too, among them a child's traceback.
        print("".join(traceback.format_exception(error)).rstrip(), file=sys.stderr)
    for line in [message] if message else getattr(error, "lines", [str(error)]):
        _say("error", "bold red", line)
    raise typer.Exit(code) from None


def _say(word: str, style: str, text: str) -> None:
    from rich.text import Text

    messages().print(Text.assemble((f"{word}:", style), " ", " ".join(text.split())))


@contextmanager
def progress() -> Iterator[Callable[[str, str], None]]:
    """One live line with what each runtime is doing, on a terminal; nothing elsewhere.

    Yields the function that is told (runtime, what it is doing).
    """
    console = messages()
    if not console.is_terminal:
        yield lambda runtime, text: None
        return
    from rich.text import Text

    doing: dict[str, str] = {}
    lock = threading.Lock()
    started = time.perf_counter()

    def line() -> Text:
        with lock:
            parts = [f"{runtime}: {text}" for runtime, text in doing.items() if text != "done"]
        seconds = time.perf_counter() - started
        return Text("  ·  ".join([f"{seconds:4.1f} s", *parts]), overflow="ellipsis", no_wrap=True)

    def tell(runtime: str, text: str) -> None:
        with lock:
            doing[runtime] = text

    with _live(console, line):
        yield tell


@contextmanager
def _live(console: Console, line: Callable[[], Text]) -> Iterator[None]:
    from rich.live import Live

    class Line:
        def __rich__(self) -> Text:
            return line()

    with Live(Line(), console=console, refresh_per_second=8, transient=True):
        yield
