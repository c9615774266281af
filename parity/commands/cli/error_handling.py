"""How an error ends a command: one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from parity.commands.cli.console import print_message
from parity.errors import ParityError

INTERRUPTION = "interrupted; there is no result, and no incomplete file was left"

show_tracebacks = False
"""Whether errors show their traceback; set by `--debug`."""


@contextmanager
def handle_errors() -> Iterator[None]:
    """While open, turn every exception into one line on standard error and an exit code.

    Raises typer.Exit with the error's exit code: 2 for an OSError, 3 for an interruption and for an
    unexpected exception, 0 for a closed pipe.
    """
    try:
        yield
    except typer.Exit:
        raise
    except ParityError as error:
        _exit_with_error(error, error.exit_code)
    except KeyboardInterrupt as error:
        _exit_with_error(error, 3, INTERRUPTION)
    except BrokenPipeError:
        # The reader has closed the pipe, which is no error: `parity models | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(0) from None
    except OSError as error:
        _exit_with_error(error, 2)
    except Exception as error:  # noqa: BLE001 (a user sees one line, whatever the error is)
        _exit_with_error(error, 3, f"internal error of parity: {type(error).__name__}: {error}")


def report_usage_error(error: Exception) -> int:
    """Print an error of the command line, with the command that shows the help; return 2."""
    # Typer words an invalid choice as Pydantic does.
    text = str(getattr(error, "format_message", lambda: error)()).replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    command = "parity" if context is None else context.command_path
    print_message("error", "bold red", f"{text.rstrip('.')}; see '{command} --help'")
    return 2


def report_interruption() -> int:
    """Print that a command was interrupted before it had begun; return 3."""
    print_message("error", "bold red", INTERRUPTION)
    return 3


def _exit_with_error(error: BaseException, code: int, message: str | None = None) -> None:
    if show_tracebacks:
        # The traceback includes the error's notes, such as a child's traceback.
        print("".join(traceback.format_exception(error)).rstrip(), file=sys.stderr)
    for line in [message] if message else getattr(error, "lines", [str(error)]):
        print_message("error", "bold red", line)
    raise typer.Exit(code) from None
