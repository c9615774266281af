"""The command line: parse, call, print, exit code."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from parity import (
    __version__,
    cli_captures,
    cli_check,
    cli_convert,
    cli_env,
    cli_models,
    console,
    interrupts,
)
from parity.arguments import (
    ALL,
    AnyModel,
    Arithmetic,
    Backend,
    Batch,
    Cached,
    Channels,
    Classes,
    Cuts,
    Depth,
    Device,
    Input,
    Interpreters,
    JudgeAs,
    KerasBackend,
    KerasGraph,
    KerasReference,
    Limit,
    Opset,
    Precision,
    Reference,
    Seed,
    Serial,
    Size,
    Subjects,
    Table,
    Timeout,
    TorchGraph,
    TorchReference,
    Weights,
    Where,
    Xla,
    listed,
    size,
)
from parity.console import guarded, progress
from parity.report.options import reported, require_writable

app = typer.Typer(
    name="parity",
    help="Are a network's Keras, PyTorch and ONNX versions the same? If not: where, and why?",
    epilog="Exit codes: 0 parity, 1 divergence, 2 bad input or usage, 3 could not tell.",
    # Rich's help boxes take a third of the time that `parity --help` has, and more room.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_env.app, name="env")

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


app.command(epilog="Example: parity models --json | jq '.[].name'")(cli_models.models)

app.command(
    epilog="Examples: parity table resnext50_32x4d --format csv > table.csv · "
    "parity table resnet18@d2l --shapes"
)(cli_models.table)


@app.command(
    epilog="Examples: parity compare resnext50_32x4d · parity compare resnet50 --weights r50.pth "
    "--input photo.jpg · parity compare --keras mynet:keras_model --torch mynet:torch_model "
    "--table mynet.csv --json report.json"
)
@reported
def compare(
    model: AnyModel = None,
    weights: Weights = None,
    input: Input = None,
    batch: Batch = None,
    seed: Seed = 0,
    subjects: Subjects = ALL,
    reference: Reference = None,
    depth: Cuts = Depth.stage,
    limit: Limit = 4.0,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Also give every part the reference's input.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain/--no-explain", help="Name and prove the causes of what differs."),
    ] = True,
    semantics: Annotated[
        bool, typer.Option("--semantics", help="Also run every model and graph in float64.")
    ] = False,
    repeat: Annotated[
        int, typer.Option(metavar="N", help="Run N times, and find what changes between runs.")
    ] = 1,
    seeds: Annotated[
        int, typer.Option(metavar="N", help="Compare on N more seeded random inputs.")
    ] = 0,
    stress: Annotated[
        bool, typer.Option("--stress", help="Compare on zeros, an impulse, large values, … too.")
    ] = False,
    onnx_keras: KerasGraph = None,
    onnx_torch: TorchGraph = None,
    keras: KerasReference = None,
    torch: TorchReference = None,
    table: Table = None,
    save_captures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep every subject's tensors.")
    ] = None,
    opset: Opset = None,
    device: Where = Device.auto,
    precision: Arithmetic = Precision.float32,
    judge_as: JudgeAs = None,
    keras_backend: KerasBackend = Backend.tensorflow,
    xla: Xla = False,
    serial: Serial = False,
    python: Interpreters = None,
    timeout: Timeout = 900.0,
    classes: Classes = None,
    image_size: Size = None,
    channels: Channels = None,
    cache: Cached = True,
    *,
    reports: dict[str, Path],
) -> None:
    """Say whether a model is the same in Keras, PyTorch and ONNX.

    The subjects are the model in Keras and in PyTorch, and in ONNX Runtime the graphs exported
    from both. Each is compared with a float64 reference, in units of what rounding alone does.
    """
    with guarded():
        from parity.children import Children
        from parity.environments import interpreters
        from parity.placement import plan
        from parity.request import Request

        request = Request(
            model=model,
            keras=keras,
            torch=torch,
            table=table,
            classes=classes,
            image_size=size(image_size),
            channels=channels,
            weights=weights,
            input=input,
            batch=batch,
            seed=seed,
            subjects=listed(subjects),
            reference=None if reference is None else reference.value,
            depth=depth.value,
            limit=limit,
            isolate=isolate,
            semantics=semantics,
            explain=explain,
            repeat=repeat,
            seeds=seeds,
            stress=stress,
            onnx_keras=onnx_keras,
            onnx_torch=onnx_torch,
            opset=opset,
            device=device.value,
            precision=precision.value,
            judge_as=None if judge_as is None else judge_as.value,
            keras_backend=keras_backend.value,
            xla=xla,
            serial=serial,
            python=interpreters(python or []),
            timeout=timeout,
            cache=cache,
            save_captures=save_captures,
        )
        require_writable(reports)
        placed = plan(request)
        with (
            Children(python=request.python, timeout=request.timeout, gpu=placed.gpu) as children,
            progress() as tell,
        ):
            children.start(request.runtimes)
            # Imported while the children import their frameworks, which takes longer.
            from parity import run

            report = run.run(request, children=children, placement=placed, progress=tell)
        report = dataclasses.replace(report, command=("parity", *sys.argv[1:]))
        console.show(report, reports)
        raise typer.Exit(report.verdict.exit_code)


app.command(
    epilog="Examples: parity convert resnext50_32x4d --weights r.pth r.weights.h5 · "
    "parity convert resnet18 --weights r.keras r.safetensors --classes 10"
)(cli_convert.convert)

app.command(
    epilog="Examples: parity export --onnx r.onnx resnext50_32x4d --from keras · "
    "parity export --onnx r.onnx resnet18 --from torch --weights r.pth --stage-outputs"
)(cli_convert.export)

app.command(
    epilog="Examples: parity capture resnet50 --input photo.jpg --depth layer --out captures · "
    "parity capture resnet50 --subjects keras --out on-the-other-machine"
)(cli_captures.capture)

app.command(
    epilog="Examples: parity diff here there --html report.html · parity diff here here --limit 2"
)(cli_captures.diff)


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
        from parity import doctor as doctors
        from parity import environments

        with progress() as tell:
            tell("doctor", "asking every runtime")
            checkup = doctors.examine(
                device=device.value, python=environments.interpreters(python or [])
            )
        if as_json:
            typer.echo(json.dumps(checkup.to_json(), indent=2))
        else:
            typer.echo("\n".join(doctors.lines(checkup)))
        raise typer.Exit(checkup.exit_code)


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
    interrupts.heed()
    try:
        code = int(app(given or ["--help"], prog_name="parity", standalone_mode=False) or 0)
    except CommandLineError as error:
        return console.misused(error)
    except (KeyboardInterrupt, typer.Abort):
        return console.interrupted()
    # Typer's own, for Ctrl-C while it reads the command line.
    return console.interrupted() if code == 130 else code


if __name__ == "__main__":
    sys.exit(main())
