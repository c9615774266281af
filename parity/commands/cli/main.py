"""The command line: parse, call, print, exit code."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from parity import __version__
from parity.commands.cli import (
    check as cli_check,
)
from parity.commands.cli import (
    compare as cli_compare,
)
from parity.commands.cli import (
    console,
    convert,
    env,
    models,
)
from parity.commands.cli.arguments import Device, Interpreters
from parity.commands.cli.console import guarded, progress
from parity.processes import interrupts

app = typer.Typer(
    name="parity",
    help="Are a network's Keras, PyTorch and ONNX versions the same? If not: where, and why?",
    epilog="Exit codes: 0 parity, 1 divergence, 2 bad input or usage, 3 could not tell.",
    # Rich's help boxes take a third of the time that `parity --help` has, and more room.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(env.app, name="env")

# Newer Typers carry a Click of their own; this is its base of errors, wherever it lives.
CommandLineError: type[Exception] = next(
    cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException"
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"parity {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    debug: Annotated[bool, typer.Option(help="Show tracebacks, of the children too.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Set what holds for every command."""
    console.debug = debug


app.command(epilog="Example: parity models --json | jq '.[].name'")(models.models)

app.command(
    epilog="Examples: parity table resnext50_32x4d --format csv > table.csv · "
    "parity table resnet18@d2l --shapes"
)(models.table)


app.command(
    epilog="Examples: parity compare resnext50_32x4d · parity compare resnet50 --weights r50.pth "
    "--input photo.jpg · parity compare --keras mynet:keras_model --torch mynet:torch_model "
    "--table mynet.csv --json report.json"
)(cli_compare.compare)

app.command(
    epilog="Examples: parity convert resnext50_32x4d --weights r.pth r.weights.h5 · "
    "parity convert resnet18 --weights r.keras r.safetensors --classes 10"
)(convert.convert)

app.command(
    epilog="Examples: parity export --onnx r.onnx resnext50_32x4d --from keras · "
    "parity export --onnx r.onnx resnet18 --from torch --weights r.pth --stage-outputs"
)(convert.export)

app.command(
    epilog="Examples: parity capture resnet50 --input photo.jpg --depth layer --out captures · "
    "parity capture resnet50 --subjects keras --out on-the-other-machine"
)(cli_compare.capture)

app.command(
    epilog="Examples: parity diff here there --html report.html · parity diff here here --limit 2"
)(cli_compare.diff)


@app.command(epilog="Examples: parity doctor · parity doctor --device gpu --json")
def doctor(
    device: Annotated[Device, typer.Option(help="The device that must be there.")] = Device.auto,
    python: Interpreters = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for a program.")] = False,
) -> None:
    """Print versions, devices, precision flags and the cache, and what is missing.

    Exits 0 if nothing is missing, 3 otherwise.
    """
    with guarded():
        from parity.commands import doctor as doctors
        from parity.processes import interpreters

        with progress() as tell:
            tell("doctor", "asking every runtime")
            status = doctors.inspect_machine(
                device=device.value, python=interpreters.interpreters(python or [])
            )
        if as_json:
            typer.echo(json.dumps(status.to_json(), indent=2))
        else:
            typer.echo("\n".join(doctors.format_lines(status)))
        raise typer.Exit(status.exit_code)


app.command(
    epilog="Examples: parity check · parity check --update · "
    "parity check tests/parity.toml --junit parity.xml --html reports"
)(cli_check.check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments`, those of the process by default; the exit code.

    Without arguments it prints the help.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Ended by a scheduler, it cleans up as after Ctrl-C.
    interrupts.install_handlers()
    try:
        code = int(app(given or ["--help"], prog_name="parity", standalone_mode=False) or 0)
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
