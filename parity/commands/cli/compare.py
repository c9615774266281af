"""`compare`, and its two halves as commands: capture now, judge later or elsewhere."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.commands.cli import arguments, console
from parity.commands.cli.command import Command
from parity.commands.cli.console import guarded, output, progress
from parity.commands.cli.report_options import reported, require_writable

if TYPE_CHECKING:
    from parity.comparison.request import Request

OneModel = Annotated[
    Path, typer.Argument(metavar="A", help="A folder of captures, or one capture file.")
]
Another = Annotated[
    Path, typer.Argument(metavar="B", help="Another, or the same to judge it again.")
]


@reported
@arguments.requesting
def compare(
    limit: arguments.Limit = 4.0,
    judge_as: arguments.JudgeAs = None,
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
    save_captures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep every subject's tensors.")
    ] = None,
    *,
    given: Mapping[str, Any],
    reports: dict[str, Path],
) -> None:
    """Say whether a model is the same in Keras, PyTorch and ONNX.

    The subjects are the model in Keras and in PyTorch, and in ONNX Runtime the graphs exported
    from both. Each is compared with a float64 reference, in units of what rounding alone does.
    """
    with guarded():
        request = arguments.request(
            given,
            limit=limit,
            judge_as=None if judge_as is None else judge_as.value,
            isolate=isolate,
            explain=explain,
            semantics=semantics,
            repeat=repeat,
            seeds=seeds,
            stress=stress,
            save_captures=save_captures,
        )
        require_writable(reports)
        with _children(request) as running:
            from parity.commands.compare import run

            report = run(**running)
        report = dataclasses.replace(report, command=("parity", *sys.argv[1:]))
        console.show(report, reports)
        raise typer.Exit(report.verdict.exit_code)


@arguments.requesting
def capture(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
    *,
    given: Mapping[str, Any],
) -> None:
    """Save what every subject computes, to be judged by `parity diff`, here or elsewhere.

    The folder gets a file a subject, and the float64 reference with the floor.
    """
    with guarded():
        with _children(arguments.request(given, save_captures=out, judge=False)) as running:
            from parity.commands.capture import save

            captures = save(**running)
        for name, failure in captures.failures.items():
            console.note(f"{name} could not be run: {failure}")
        for path in sorted(captures.files.values()):
            output().print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")
        raise typer.Exit(0 if captures.ok else 3)


@contextmanager
def _children(request: "Request") -> Iterator[dict[str, Any]]:
    """Start the children, which import their frameworks while we import the rest; see `run`."""
    from parity.comparison.placement import plan_placement
    from parity.processes.children import Children

    placed = plan_placement(request)
    with (
        Children(python=request.python, timeout=request.timeout, gpu=placed.gpu) as children,
        progress() as tell,
    ):
        children.start(request.runtimes)
        yield {"request": request, "children": children, "placement": placed, "progress": tell}


@reported
def diff(
    a: OneModel,
    b: Another,
    limit: arguments.Limit = 4.0,
    judge_as: arguments.JudgeAs = None,
    *,
    reports: dict[str, Path],
) -> None:
    """Judge saved captures, of one place or of two, without running anything.

    They must be of one model, one set of weights and one input; versions, devices and machines may
    differ. The reference and the floors are A's where it has them, else B's.
    """
    with guarded():
        from parity.commands import diff as diffing

        require_writable(reports)
        precision = None if judge_as is None else judge_as.value
        report = diffing.diff(a, b, limit=limit, judge_as=precision)
        report = dataclasses.replace(report, command=("parity", *sys.argv[1:]))
        console.show(report, reports)
        raise typer.Exit(report.verdict.exit_code)


COMMANDS = (
    Command(
        compare,
        place=30,
        examples=(
            "parity compare resnext50_32x4d",
            "parity compare resnet50 --weights r50.pth --input photo.jpg",
            "parity compare --keras mynet:keras_model --torch mynet:torch_model "
            "--table mynet.csv --json report.json",
        ),
    ),
    Command(
        capture,
        place=60,
        examples=(
            "parity capture resnet50 --input photo.jpg --depth layer --out captures",
            "parity capture resnet50 --subjects keras --out on-the-other-machine",
        ),
    ),
    Command(
        diff,
        place=70,
        examples=(
            "parity diff here there --html report.html",
            "parity diff here here --limit 2",
        ),
    ),
)
