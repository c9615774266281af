"""How an error ends a command: one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from parity.commands.cli.console import print_message
from parity.commands.cli.outlet import INTERRUPTION, shorten
from parity.errors import ParityError
from parity.text import quote

show_tracebacks = False
"""Whether errors show their traceback; set by `--debug`."""

json_requested = False
"""Whether an error is also printed as a JSON object; set by `--json -`."""

SCHEMA = "parity.error/1"


@contextmanager
def handle_errors() -> Iterator[None]:
    """While open, turn every exception into one line on standard error and an exit code.

    Raises typer.Exit with the error's exit code: 2 for an OSError, 3 for an interruption and for an
    unexpected exception.
    """
    try:
        yield
    except typer.Exit:
        raise
    except ParityError as error:
        _exit_with_error(error, error.exit_code)
    except KeyboardInterrupt as error:
        _exit_with_error(error, 3, INTERRUPTION)
    except OSError as error:
        _exit_with_error(error, 2, _describe_os_error(error))
    except Exception as error:  # noqa: BLE001 (a user sees one line, whatever the error is)
        _exit_with_error(error, 3, f"internal error of parity: {type(error).__name__}: {error}")


def _describe_os_error(error: OSError) -> str:
    if not isinstance(error.filename, str | bytes) or not error.strerror or error.filename2:
        return str(error)
    return f"{quote(os.fsdecode(error.filename))}: {error.strerror}"


def report_usage_error(error: Exception) -> int:
    """Print an error of the command line, with the command that shows the help; return 2."""
    # Typer words an invalid choice as Pydantic does.
    text = str(getattr(error, "format_message", lambda: error)()).replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    command = "parity" if context is None else context.command_path
    report_error(f"{text.rstrip('.')}; see '{command} --help'", kind="UsageError", code=2)
    return 2


def report_interruption() -> int:
    """Print that a command was interrupted before it had begun; return 3."""
    report_error(INTERRUPTION, kind="Interruption", code=3)
    return 3


def report_error(message: str, *, kind: str | None = None, code: int = 2) -> None:
    """Print an error on one line; with a `kind` also as a JSON object where JSON was requested.

    The object has the error's kind, its message, the remedy (what follows the message's last
    semicolon, or null), and the exit code.
    """
    text = shorten(" ".join(message.split()))
    print_message("error", "bold red", text)
    if json_requested and kind is not None:
        # Not at the top: `parity --help` needs no JSON.
        import json

        _, separator, remedy = text.rpartition("; ")
        data = {
            "schema": SCHEMA,
            "kind": kind,
            "message": text,
            "remedy": remedy if separator else None,
            "exit_code": code,
        }
        print(json.dumps(data, indent=2))


def _exit_with_error(error: BaseException, code: int, message: str | None = None) -> None:
    if show_tracebacks:
        # The traceback includes the error's notes, such as a child's traceback.
        print("".join(traceback.format_exception(error)).rstrip(), file=sys.stderr)
    lines = [message] if message else list(getattr(error, "lines", [str(error)]))
    kind = "Interruption" if isinstance(error, KeyboardInterrupt) else type(error).__name__
    for index, line in enumerate(lines):
        # Several lines are several faults of one file; the object holds the first one.
        report_error(line, kind=None if index else kind, code=code)
    raise typer.Exit(code) from None
