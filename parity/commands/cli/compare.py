"""The commands `parity compare`, and its two steps `parity capture` and `parity diff`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.commands.cli.report_options import (
    require_writable,
    show_report,
    with_report_options,
)
from parity.commands.cli.request_options import (
    build_graph_request,
    build_request,
    with_request_options,
)
from parity.defaults import LIMIT
from parity.processes.garbage import no_garbage_collection
from parity.text import format_size

if TYPE_CHECKING:
    from parity.comparison.request import Request

_INPUT_OPTIONS = ("weights", "input", "table")

FirstCaptures = Annotated[
    Path, typer.Argument(metavar="A", help="A folder of captures, or one capture file.")
]
SecondCaptures = Annotated[
    Path, typer.Argument(metavar="B", help="Another, or the same one again.")
]


@with_report_options
@with_request_options
def compare(
    references: arguments.ReferencesArgument = None,
    shape: arguments.ShapeOption = None,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    export: arguments.ExportOption = True,
    limit: arguments.LimitOption = LIMIT,
    judge_as: arguments.JudgeAsOption = None,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate",
            help="Also run every part on the reference's input.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain/--no-explain",
            help="Find and prove the causes of differences.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = True,
    semantics: Annotated[
        bool,
        typer.Option(
            "--semantics",
            help="Also run every model and graph in float64.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = False,
    repeat: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Run N times; report what changes between runs.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = 1,
    seeds: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Also compare on N seeded random inputs.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = 0,
    stress: Annotated[
        bool,
        typer.Option(
            "--stress",
            help="Also compare on extreme inputs: zeros, large values, …",
            rich_help_panel=panels.JUDGED,
        ),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The class names by index, for the predictions: one a line, or JSON.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    save_captures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save every subject's tensors for `parity diff`.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    *,
    options: Mapping[str, Any],
    reports: dict[str, Path],
) -> None:
    """Compare models in Keras, PyTorch and ONNX Runtime.

    One registered architecture is compared in Keras, in PyTorch, and as the graphs exported from
    both. Two or more models of your own are read, their layers are paired, and they are compared
    with the first in float64. Errors are in units of the rounding floor.
    """
    criteria = {
        "limit": limit,
        "judge_as": None if judge_as is None else judge_as.value,
        "isolate": isolate,
        "explain": explain,
        "semantics": semantics,
        "repeat": repeat,
        "seeds": seeds,
        "stress": stress,
        "labels": labels,
        "save_captures": save_captures,
    }
    with handle_errors():
        with no_garbage_collection():
            from parity.commands.values import names_any_models

        if names_any_models(references or (), table=options["table"]):
            require_writable(reports, _list_inputs(references, options, custom_objects))
            graph_request = build_graph_request(
                options,
                tuple(references or ()),
                shape=shape or (),
                trust=trust,
                custom_objects=custom_objects,
                export=export,
                **criteria,
            )
            with show_progress() as update_progress:
                with no_garbage_collection():
                    from parity.commands.compare_graphs import compare_graphs

                report = compare_graphs(graph_request, progress=update_progress)
            report = dataclasses.replace(report, command=("parity", *sys.argv[1:]))
            show_report(report, reports)
            raise typer.Exit(report.verdict.exit_code)
        request = build_request(
            options,
            tuple(references or ()),
            **criteria,
        )
        require_writable(reports, _list_inputs(references, options, custom_objects))
        with _start_children(request) as run_arguments:
            with no_garbage_collection():
                from parity.commands.compare import compare_request

            report = compare_request(**run_arguments)
        report = dataclasses.replace(report, command=("parity", *sys.argv[1:]))
        show_report(report, reports)
        raise typer.Exit(report.verdict.exit_code)


@with_request_options
def capture(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="The folder for the captures.", rich_help_panel=panels.OUTPUTS
        ),
    ],
    references: arguments.ReferencesArgument = None,
    shape: arguments.ShapeOption = None,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    export: arguments.ExportOption = True,
    polygraphy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Also save the model outputs as `polygraphy run --save-outputs` does.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    *,
    options: Mapping[str, Any],
) -> None:
    """Run models and save their tensors for `parity diff`.

    The folder gets one file for each subject, and one with the float64 reference and its floors.
    """
    with handle_errors():
        from parity.commands.values import names_any_models

        if polygraphy is not None:
            written = {"json": polygraphy}
            require_writable(written, _list_inputs(references, options, custom_objects))
        if names_any_models(references or (), table=options["table"]):
            graph_request = build_graph_request(
                options,
                tuple(references or ()),
                shape=shape or (),
                trust=trust,
                custom_objects=custom_objects,
                export=export,
                save_captures=out,
                judge=False,
            )
            with show_progress() as update_progress:
                from parity.commands.capture import capture_models

                captures = capture_models(graph_request, progress=update_progress)
        else:
            request = build_request(
                options, tuple(references or ()), save_captures=out, judge=False
            )
            with _start_children(request) as run_arguments:
                from parity.commands.capture import capture_request

                captures = capture_request(**run_arguments)
        from parity.commands.capture import save_outputs

        save_outputs(captures, polygraphy)
        for name, failure in captures.failures.items():
            console.print_note(f"{name} could not be run: {failure}")
        for note in captures.notes:
            console.print_note(note)
        for path in sorted(captures.files.values()):
            console.stdout_console().print(f"{path}: {format_size(path.stat().st_size)}")
        raise typer.Exit(0 if captures.ok else 3)


def _list_inputs(
    references: Sequence[str] | None, options: Mapping[str, Any], custom_objects: str | None
) -> list[object]:
    """Return every text of a command line that may name a file which is read."""
    values = (options.get(name) for name in _INPUT_OPTIONS)
    listed = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [*(references or ()), *listed, custom_objects]


def _list_folder(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []


@contextmanager
def _start_children(request: "Request") -> Iterator[dict[str, Any]]:
    """Start the children, and yield the arguments of `compare_request`.

    The children import their frameworks while this process imports NumPy and the rest of parity.
    """
    from parity.comparison.placement import plan_placement
    from parity.processes.children import Children

    placement = plan_placement(request)
    with (
        Children(
            python=request.python, timeout=request.timeout, gpu=placement.uses_gpu
        ) as children,
        show_progress() as update_progress,
    ):
        children.start(request.runtimes)
        for side in request.sides:
            arguments = request.load_arguments(side)
            if arguments["spec"] is not None:
                # A child that is ready need not wait until this process has imported NumPy. A
                # user's code runs once everything else has been checked.
                child = children[request.home_child(side)]
                child.begin("hello")
                child.begin("load", **arguments)
        yield {
            "request": request,
            "children": children,
            "placement": placement,
            "progress": update_progress,
        }


@with_report_options
def diff(
    a: FirstCaptures,
    b: SecondCaptures,
    limit: arguments.LimitOption = LIMIT,
    judge_as: arguments.JudgeAsOption = None,
    *,
    reports: dict[str, Path],
) -> None:
    """Compare saved captures without running a model.

    They must have the same model, weights and input; versions, devices and machines may differ.
    The reference and its floors are those of A if it has them, else those of B. One of the two
    may be a FILE.json of `polygraphy run --save-outputs`: then the model's outputs are compared.
    """
    with handle_errors():
        from parity.commands import diff as diffing

        require_writable(reports, (a, b, *_list_folder(a), *_list_folder(b)))
        precision = None if judge_as is None else judge_as.value
        report = diffing.diff(a, b, limit=limit, judge_as=precision)
        report = dataclasses.replace(report, command=("parity", *sys.argv[1:]))
        show_report(report, reports)
        raise typer.Exit(report.verdict.exit_code)


COMMANDS = (
    Command(
        compare,
        place=30,
        examples=(
            "parity compare resnext50_32x4d",
            "parity compare resnet50 --weights r50.pth --input photo.jpg",
            "parity compare mynet.py:keras_model mynet.py:torch_model",
            "parity compare net.py:build deployed.onnx --json report.json",
        ),
    ),
    Command(
        capture,
        place=60,
        examples=(
            "parity capture resnet50 --input photo.jpg --depth layer --out captures",
            "parity capture resnet50 --subjects keras --out on-the-other-machine",
            "parity capture net.py:build deployed.onnx --out here",
        ),
    ),
    Command(
        diff,
        place=70,
        examples=(
            "parity diff here there --html report.html",
            "parity diff here here --limit 2",
            "parity diff here tensorrt.json",
        ),
    ),
)
