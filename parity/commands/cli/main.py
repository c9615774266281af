"""The entry point: build the command line, run it, return the exit code."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from parity.commands.cli import command, error_handling
from parity.processes import interrupts
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    `arguments` are by default those of the process. Without arguments the help is printed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # SIGTERM, as a scheduler sends it, is handled like Ctrl-C: temporary files are removed.
    interrupts.install_handlers()
    try:
        code = int(build_app()(words, prog_name="parity", standalone_mode=False) or 0)
    except CommandLineError as error:
        return error_handling.report_usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        return error_handling.report_interruption()
    finally:
        interrupts.cancel_retry()
    # Typer returns 130 for Ctrl-C while it reads the command line.
    return error_handling.report_interruption() if code == 130 else code


if __name__ == "__main__":
    sys.exit(main())
