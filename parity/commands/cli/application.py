"""The command line: all commands, and how their results become exit codes."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from collections.abc import Sequence
from typing import Annotated

import typer

from parity.commands.cli import command, error_handling
from parity.version import __version__

# Newer versions of Typer contain their own Click; this is its base class of errors in any version.
CommandLineError: type[Exception] = next(
    cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException"
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"parity {__version__}")
        raise typer.Exit()


def set_global_options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, including those of child processes.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Set the options that precede a command."""
    error_handling.show_tracebacks = debug


def build_app() -> typer.Typer:
    """Return the command line, whose commands are found when it is used."""
    app = typer.Typer(
        name="parity",
        cls=command.CommandGroup,
        help="Compare a network in Keras, PyTorch and ONNX; report where and why it differs.",
        epilog="Exit codes: 0 parity, 1 divergence, 2 bad input or usage, 3 could not tell.",
        # Rich's help takes a third of the time that `parity --help` may take, and more lines.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(set_global_options)
    return app


def run(words: Sequence[str]) -> tuple[int, bool]:
    """Run the command line: (exit code, whether a command stated it rather than simply ended)."""
    error_handling.json_requested = _requests_json(words)
    try:
        code = build_app()(list(words), prog_name="parity", standalone_mode=False)
    except CommandLineError as error:
        return error_handling.report_usage_error(error), True
    except (KeyboardInterrupt, typer.Abort):
        return error_handling.report_interruption(), True
    if code == 130:
        # Typer returns this for Ctrl-C while it reads the command line.
        return error_handling.report_interruption(), True
    return int(code or 0), code is not None


def _requests_json(words: Sequence[str]) -> bool:
    """Return whether the JSON report is printed, as `--json -` says, and no other one."""
    printed = [word for word in words if word == "-" or word.endswith("=-")]
    return printed == ["--json=-"] or (printed == ["-"] and words[words.index("-") - 1] == "--json")
