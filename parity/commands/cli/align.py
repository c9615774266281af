"""The command `parity align`."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors


def align(
    first: Annotated[
        str, typer.Argument(metavar="[NAME=]REF", help="A model; the others are paired with it.")
    ],
    second: Annotated[str, typer.Argument(metavar="[NAME=]REF", help="Another model.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="F.csv|F.json",
            help="Write the pairs to this file.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    model_explorer: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write both graphs and pairs.json, which synchronises them, for Model Explorer.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = None,
    table: arguments.TableOption = None,
    input: arguments.InputOption = None,
    shape: arguments.ShapeOption = None,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    seed: arguments.SeedOption = 0,
    image_size: arguments.ImageSizeOption = None,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
) -> None:
    """Pair the layers of two models, without names, and say how sure each pair is.

    A pair is sure if the values of both layers agree once the weights are copied. Exit code 1: a
    layer has no partner, or a pair is not sure.
    """
    with handle_errors():
        import json

        from parity import files
        from parity.commands.align import COLUMNS, align_models
        from parity.commands.cli.progress import show_progress
        from parity.commands.outputs import require_outputs
        from parity.commands.values import parse_image_size, parse_inputs, parse_shapes
        from parity.comparison.graphs.request import GraphRequest
        from parity.processes.interpreters import resolve_interpreters

        require_outputs([out], [first, second, *(input or ()), custom_objects, table])
        if out is not None:
            files.require_suffix(out, ".csv", ".json")
        if model_explorer is not None:
            files.require_writable_folder(model_explorer)
        plain, named = parse_inputs(input or ())
        request = GraphRequest(
            references=(first, second),
            input=plain,
            inputs=dict(named),
            shapes=parse_shapes(shape or ()),
            trust=tuple(trust or ()),
            custom_objects=custom_objects,
            table=table,
            seed=seed,
            image_size=parse_image_size(image_size),
            python=resolve_interpreters(python or []),
            timeout=timeout,
            export=False,
        )
        with show_progress() as update_progress:
            aligned = align_models(request, progress=update_progress)
        if out is not None:
            is_json = out.suffix.lower() == ".json"
            text = json.dumps(aligned.to_json(), indent=2) if is_json else aligned.to_csv()
            files.write_text(out, text)
            console.stdout_console().print(
                f"wrote {out}: {aligned.describe_pairs()}", markup=False, highlight=False
            )
        else:
            console.print_table(
                [*COLUMNS[:1], aligned.reference, aligned.other, *COLUMNS[3:]],
                [row.cells() for row in aligned.rows],
            )
        if model_explorer is not None:
            from parity.commands.model_explorer import write_files

            names = aligned.reference, aligned.other
            write_files(model_explorer, aligned.graphs, names, aligned.alignment)
        for note in aligned.notes:
            console.print_note(note)
        raise typer.Exit(0 if aligned.complete else 1)


COMMANDS = (
    Command(
        align,
        place=35,
        examples=(
            "parity align keras:ResNet50 torchvision:resnet50",
            "parity align net.py:build deployed.onnx --out pairs.csv",
            "parity align net.py:build deployed.onnx --table pairs.csv",
            "parity align net.py:build deployed.onnx --model-explorer views",
        ),
    ),
)
