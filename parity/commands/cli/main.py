"""The command line: parse, call, print, exit code."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from parity.commands.cli import command, console
from parity.processes import interrupts
from parity.version import __version__

# Newer Typers carry a Click of their own; this is its base of errors, wherever it lives.
CommandLineError: type[Exception] = next(
    cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException"
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"parity {__version__}")
        raise typer.Exit()


def root(
    debug: Annotated[bool, typer.Option(help="Show tracebacks, of the children too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Set what holds for every command."""
    console.debug = debug


def build() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(
        name="parity",
        help="Are a network's Keras, PyTorch and ONNX versions the same? If not: where, and why?",
        epilog="Exit codes: 0 parity, 1 divergence, 2 bad input or usage, 3 could not tell.",
        # Rich's help boxes take a third of the time that `parity --help` has, and more room.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    command.add_to(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments`, those of the process by default; the exit code.

    Without arguments it prints the help.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Ended by a scheduler, it cleans up as after Ctrl-C.
    interrupts.install_handlers()
    try:
        code = int(build()(given or ["--help"], prog_name="parity", standalone_mode=False) or 0)
    except CommandLineError as error:
        return console.misused(error)
    except (KeyboardInterrupt, typer.Abort):
        return console.interrupted()
    finally:
        interrupts.cancel_retry()
    # Typer's own, for Ctrl-C while it reads the command line.
    return console.interrupted() if code == 130 else code


if __name__ == "__main__":
    sys.exit(main())
