"""The progress of a command: one line on the terminal that shows what each runtime is doing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from parity.commands.cli import console as console_state
from parity.commands.cli.console import print_message, stderr_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


@contextmanager
def show_progress() -> Iterator[Callable[[str, str], None]]:
    """Show a progress line while open, if standard error is a terminal.

    Yields a function of (runtime, what it is doing now), which updates the line. A verbose command
    prints each step on a line of its own instead, terminal or not; a quiet one prints nothing.
    """
    if console_state.verbosity == console_state.VERBOSE:
        yield _print_steps()
        return
    console = stderr_console()
    # FORCE_COLOR makes Rich call a pipe a terminal: colours it can have, a moving line it cannot.
    if not sys.stderr.isatty() or console_state.verbosity == console_state.QUIET:
        yield lambda runtime, text: None
        return
    from rich.text import Text

    activities: dict[str, str] = {}
    lock = threading.Lock()
    start = time.perf_counter()

    def line() -> Text:
        with lock:
            parts = [f"{runtime}: {text}" for runtime, text in activities.items() if text != "done"]
        seconds = time.perf_counter() - start
        # A step that no runtime has named, such as the start, is still shown as one that goes on.
        return Text(
            "  ·  ".join([f"{seconds:4.1f} s", *(parts or ["working"])]),
            overflow="ellipsis",
            no_wrap=True,
        )

    def update(runtime: str, text: str) -> None:
        with lock:
            activities[runtime] = text

    with _live_line(console, line):
        yield update


def _print_steps() -> Callable[[str, str], None]:
    """Return a function that prints each step with the seconds since the command began."""
    start = time.perf_counter()
    lock = threading.Lock()

    def update(runtime: str, text: str) -> None:
        with lock:
            print_message(f"{time.perf_counter() - start:6.1f} s", "dim", f"{runtime}: {text}")

    return update


@contextmanager
def _live_line(console: Console, line: Callable[[], Text]) -> Iterator[None]:
    """Print what `line` returns eight times a second, in place; remove it afterwards."""
    from rich.live import Live

    class Line:
        def __rich__(self) -> Text:
            return line()

    with Live(Line(), console=console, refresh_per_second=8, transient=True):
        yield
