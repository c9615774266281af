"""The options of a command that writes reports, one for each format, and what they ask for."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity import files
from parity.errors import UsageError
from parity.report import formats

if TYPE_CHECKING:
    from parity.report.model import Report

STDOUT = Path("-")


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose ``reports`` argument this fills, an option for each format.

    ``reports`` maps the formats that were asked for to the files to write.
    """
    options = {f"report_{name}": name for name in formats.list_formats()}

    @functools.wraps(command)
    def with_reports(**given: Any) -> None:
        paths = {name: given.pop(option) for option, name in options.items()}
        command(**given, reports={name: path for name, path in paths.items() if path})

    signature = inspect.signature(command)
    kept = [each for each in signature.parameters.values() if each.name != "reports"]
    added = [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                Path | None,
                typer.Option(
                    f"--{name}", metavar="FILE", help=f"Write the report as {name}; - prints it."
                ),
            ],
        )
        for option, name in options.items()
    ]
    # Typer reads the options off the signature and their types off the annotations.
    with_reports.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    with_reports.__annotations__ = {each.name: each.annotation for each in [*kept, *added]}
    return with_reports


def require_writable(reports: Mapping[str, Path]) -> None:
    """Raise before any work is done if a file cannot be written, or two would share stdout."""
    if list(reports.values()).count(STDOUT) > 1:
        raise UsageError("only one report can be printed: give the others a file")
    for path in reports.values():
        if path != STDOUT:
            files.require_writable(path)


def write(report: Report, reports: Mapping[str, Path]) -> bool:
    """Write the reports asked for; return whether one was printed in place of the table.

    In a GitHub workflow the errors are also annotations of the run.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from parity.report.formats.markdown import render_github_annotations

        # Standard error is read for commands too, and keeps a printed report whole.
        for line in render_github_annotations(report):
            print(line, file=sys.stderr)
    for name, path in reports.items():
        if path == STDOUT:
            print(formats.load_format(name).render(report), end="")
        else:
            formats.write_report(report, path, name)
    return STDOUT in reports.values()
