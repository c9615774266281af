"""The command `parity bisect`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors
from parity.commands.cli.progress import show_progress
from parity.defaults import LIMIT

if TYPE_CHECKING:
    from parity.commands.bisect import BisectResult


def bisect(
    references: arguments.ReferencesArgument = None,
    package: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The package whose releases are tried.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    good: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="The release that is right.", rich_help_panel=panels.WHAT
        ),
    ] = None,
    bad: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="The release that is wrong.", rich_help_panel=panels.WHAT
        ),
    ] = None,
    versions: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="The releases to try, instead of all in pip's index.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    find_links: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="A folder or page of wheels for pip. Repeatable.",
            rich_help_panel=panels.WHERE,
        ),
    ] = None,
    commits: Annotated[
        str | None,
        typer.Option(
            metavar="GOOD..BAD",
            help="Commits of the models' repository instead of a package.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    case: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A case of parity.toml instead of REF; its figures are followed.",
            rich_help_panel=panels.WHAT,
        ),
    ] = None,
    file: Annotated[
        Path,
        typer.Option(
            "--file", metavar="FILE", help="The case file of --case.", rich_help_panel=panels.WHAT
        ),
    ] = Path("parity.toml"),
    figure: Annotated[
        str | None,
        typer.Option(
            metavar="SUBJECT",
            help="Bad is an error of this subject at more than twice the good one, in floors; by "
            "default a divergence.",
            rich_help_panel=panels.JUDGED,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the environments here, and use those that are.",
            rich_help_panel=panels.WHERE,
        ),
    ] = None,
    weights: arguments.WeightsOption = None,
    input: arguments.InputOption = None,
    shape: arguments.ShapeOption = None,
    batch: arguments.BatchOption = None,
    seed: arguments.SeedOption = 0,
    image_size: arguments.ImageSizeOption = None,
    export: arguments.ExportOption = True,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    limit: arguments.LimitOption = LIMIT,
    device: arguments.DeviceOption = arguments.Device.auto,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=panels.OUTPUTS)
    ] = False,
) -> None:
    """Find the release or commit that moved a result, the layer and the cause.

    One model is compared with itself at the good end, several with one another in each release or
    commit. Each release is installed into an environment above the current one, each commit is
    checked out in a worktree; what cannot be installed or run is skipped. Exit codes: 0 found, 2
    bad input, 3 could not tell, or an end could not be compared.
    """
    with handle_errors():
        from parity.commands import bisect as bisecting
        from parity.commands.values import parse_inputs, parse_shapes
        from parity.processes.interpreters import resolve_interpreters

        plain, named = parse_inputs(input or ())
        with show_progress() as update_progress:
            found = bisecting.bisect(
                *(references or ()),
                package=package,
                good=good,
                bad=bad,
                versions=(versions or "").split(",") if versions else (),
                find_links=find_links or (),
                commits=commits,
                case=case,
                file=file,
                figure=figure,
                folder=folder,
                weights=weights,
                input=plain,
                inputs=dict(named),
                shapes=parse_shapes(shape or ()),
                batch=batch,
                seed=seed,
                image_size=image_size,
                export=export,
                trust=trust or (),
                custom_objects=custom_objects,
                limit=limit,
                device=device.value,
                python=resolve_interpreters(python or []),
                timeout=timeout,
                progress=update_progress,
            )
        if as_json:
            console.print_json(found.to_json())
        else:
            _print_result(found)
        raise typer.Exit(found.exit_code)


def _print_result(found: "BisectResult") -> None:
    symbols = {"good": "✓", "bad": "✗", "skipped": "–"}
    console.print_table(
        [found.what, "outcome", "seconds", "because"],
        [
            [
                each.name[:12],
                f"{symbols[each.outcome]} {each.outcome}",
                f"{each.seconds:.1f}",
                each.reason,
            ]
            for each in found.trials
        ],
        right=("seconds",),
    )
    print(f"\n{found.sentence}")


COMMANDS = (
    Command(
        bisect,
        place=94,
        examples=(
            "parity bisect net.py:build deployed.onnx --package onnxruntime --good 1.30 --bad 1.32",
            "parity bisect net.py:build --package timm --good 1.0.9 --bad 1.0.20",
            "parity bisect net.py:build --commits v1.0..HEAD",
            "parity bisect --case resnet18-photo --package torch --good 2.9.1 --bad 2.13.0",
        ),
    ),
)
