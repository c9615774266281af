"""The options of a command that writes reports, one for each format."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.commands.cli import console, error_handling, panels
from parity.errors import OutputError, UsageError
from parity.report import formats
from parity.text import find_unfiltered

if TYPE_CHECKING:
    from parity.report.model import Report

STDOUT = Path("-")


def _title(name: str) -> str:
    """Return what a format is called in a sentence: short names are abbreviations."""
    return name.upper() if len(name) < 5 else name.capitalize()


def with_report_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each report format to a command.

    The command gets {format: file to write} in its argument ``reports``.
    """
    options = {f"report_{name}": name for name in formats.list_formats()}

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        paths = {name: values.pop(option) for option, name in options.items()}
        command(**values, reports={name: path for name, path in paths.items() if path})

    signature = inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.name != "reports"]
    report_parameters = [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                Path | None,
                typer.Option(
                    f"--{name}",
                    metavar="FILE",
                    help=f"Write the report as {_title(name)}; - prints it.",
                    rich_help_panel=panels.OUTPUTS,
                ),
            ],
        )
        for option, name in options.items()
    ]
    parameters = [*own, *report_parameters]
    # Typer reads the options from the signature and their types from the annotations.
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def require_one_printed(reports: Mapping[str, Path]) -> None:
    """Raise UsageError if several reports are to be printed."""
    formats_to_print = [f"--{name}" for name, path in reports.items() if path == STDOUT]
    if len(formats_to_print) > 1:
        raise UsageError(
            f"{' and '.join(formats_to_print)}: only one report can be printed; write the others "
            "to a file"
        )


def require_writable(reports: Mapping[str, Path], inputs: Iterable[object] = ()) -> None:
    """Raise UsageError or OutputError if the reports cannot be written; call it before any work.

    Their names say their formats, or nothing. `inputs` are what the command reads; a report must
    replace none of these files.
    """
    # Not at the top: `parity --help` needs the formats' names alone.
    from parity import files

    require_one_printed(reports)
    for path in reports.values():
        if path != STDOUT:
            files.require_writable(path)
    files.require_other_files(
        [path for path in reports.values() if path != STDOUT], [str(each) for each in inputs]
    )
    for name, path in reports.items():
        if path != STDOUT:
            files.require_suffix(path, formats.find_suffix(name))


def write_reports(report: Report, reports: Mapping[str, Path]) -> bool:
    """Write the reports; return whether one was printed, which then replaces the table.

    In a GitHub workflow, also print the errors as annotations.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from parity.report.formats.markdown import render_github_annotations

        # GitHub also reads annotations from standard error, where they do not mix with a report.
        for line in render_github_annotations(report):
            print(line, file=find_unfiltered(sys.stderr))
    for name, path in reports.items():
        if path == STDOUT:
            print(formats.load_format(name).render(report), end="")
        else:
            try:
                formats.write_report(report, path, name)
            except OutputError as error:
                # The verdict stands, and the other reports can still be written.
                error_handling.report_error(str(error))
    return STDOUT in reports.values()


def show_report(report: Report, reports: Mapping[str, Path]) -> None:
    """Write the report files, and print the table unless one of them is printed (`-`)."""
    from parity.report import terminal

    if write_reports(report, reports):
        return
    # What is piped is as wide as its longest line.
    piped = not sys.stdout.isatty()
    stdout = console.make_console(sys.stdout, soft_wrap=piped, width=10_000 if piped else None)
    if console.verbosity == console.QUIET:
        terminal.render_verdict(report, stdout)
    else:
        terminal.render(report, stdout)
