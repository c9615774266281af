"""The commands `parity models` and `parity table`, which need no framework."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import arguments, console, panels
from parity.commands.cli.command import Command
from parity.commands.cli.error_handling import handle_errors

if TYPE_CHECKING:
    from parity.comparison.graphs.request import GraphRequest
    from parity.network.spec import ModelSpec


class TableFormat(StrEnum):
    """The output format of `parity table`."""

    text = "text"
    json = "json"
    csv = "csv"
    toml = "toml"


def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=panels.OUTPUTS)
    ] = False,
) -> None:
    """List the registered architectures and their sizes.

    "parameters" counts the trained values; "with statistics" adds batch-norm's running mean and
    variance, as Keras counts. A variant, MODEL@VARIANT, has the numbers of the published model.
    """
    with handle_errors():
        from parity.network import architectures

        specs = [architectures.get(name) for name in architectures.all_names()]
        rows = [
            {
                "name": model.name,
                "family": model.family,
                "parameters": model.size.parameters,
                "with_statistics": model.size.total,
                "input_shape": list(model.input_form.shape[1:]),
                "classes": model.classes,
            }
            for model in specs
        ]
        if as_json:
            console.print_json(rows)
            return
        console.print_table(
            ["model", "parameters", "with statistics", "input", "classes"],
            [
                [
                    str(row["name"]),
                    f"{row['parameters']:,}",
                    f"{row['with_statistics']:,}",
                    "×".join(map(str, model.input_form.shape[1:])),
                    str(row["classes"]),
                ]
                for model, row in zip(specs, rows, strict=True)
            ],
            right=("parameters", "with statistics", "classes"),
        )


def table(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|REF",
            autocompletion=arguments.complete_reference,
            help="A registered architecture, or any model that is read.",
        ),
    ],
    format: Annotated[
        TableFormat, typer.Option(help="The output format.", rich_help_panel=panels.OUTPUTS)
    ] = TableFormat.text,
    shapes: Annotated[
        bool,
        typer.Option(
            "--shapes",
            help="Print the shape after each stage and the operands of each sum.",
            rich_help_panel=panels.OUTPUTS,
        ),
    ] = False,
    classes: arguments.ClassesOption = None,
    image_size: arguments.ImageSizeOption = None,
    channels: arguments.ChannelsOption = None,
    input: arguments.InputOption = None,
    shape: arguments.ShapeOption = None,
    seed: arguments.SeedOption = 0,
    trust: arguments.TrustOption = None,
    custom_objects: arguments.CustomObjectsOption = None,
    python: arguments.PythonOption = None,
    timeout: arguments.TimeoutOption = 900.0,
) -> None:
    """Print the layer table: each layer in both models. Of a model of your own, print its layers.

    A row has a layer's kind, its name in both models, the shapes of its weights in both layouts,
    the shape of its output and its stage. With --shapes, print instead the output shape of each
    stage and the two operands of every addition.

    Any other model (`net.py:Residual,3,6`, `model.onnx`) is run once and read: kind, path, source
    line, operands of each join, output shape, trainable and other parameters.
    """
    with handle_errors():
        from parity.commands.values import (
            names_any_models,
            parse_image_size,
            parse_inputs,
            parse_shapes,
        )
        from parity.comparison.graphs.request import GraphRequest
        from parity.errors import UsageError
        from parity.network import architectures
        from parity.processes.interpreters import resolve_interpreters

        size = parse_image_size(image_size)
        if names_any_models((model,)):
            plain, named = parse_inputs(input or ())
            request = GraphRequest(
                references=(model,),
                image_size=size,
                input=plain,
                inputs=dict(named),
                shapes=parse_shapes(shape or ()),
                seed=seed,
                trust=tuple(trust or ()),
                custom_objects=custom_objects,
                python=resolve_interpreters(python or []),
                timeout=timeout,
                export=False,
            )
            _print_graph(request, format)
            return
        if input or shape:
            raise UsageError("--input and --shape belong to models that are read")
        spec = architectures.get(model, classes=classes, image_size=size, channels=channels)
        if shapes:
            _print_shapes(spec, format)
            return
        layers = spec.table()
        if format is TableFormat.json:
            console.print_json(layers.to_json())
        elif format is TableFormat.csv:
            typer.echo(layers.to_csv(), nl=False)
        elif format is TableFormat.toml:
            typer.echo(layers.to_toml(), nl=False)
        else:
            rows = layers.text_rows()
            console.print_table(list(rows[0]), [list(row.values()) for row in rows])


def _print_graph(request: "GraphRequest", format: TableFormat) -> None:
    import csv

    import tomli_w

    from parity.commands.align import describe_graph, read_graph
    from parity.commands.cli.progress import show_progress

    with show_progress() as update_progress:
        graph = read_graph(request, progress=update_progress)
    rows = describe_graph(graph)
    if format is TableFormat.json:
        console.print_json(graph.to_json())
    elif format is TableFormat.toml:
        typer.echo(tomli_w.dumps({"rows": rows}), nl=False)
    elif format is TableFormat.csv:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        numbers = ("trainable", "other")
        console.print_table(list(rows[0]), [list(row.values()) for row in rows], right=numbers)
        total = sum(each.size for each in graph.parameters if each.trainable)
        print(f"\n{len(rows)} operations, {total:,} trainable parameters")


def _print_shapes(spec: "ModelSpec", format: TableFormat) -> None:
    import tomli_w

    from parity.network import shapes

    network_shapes = shapes.summarise(spec)
    if format is TableFormat.json:
        console.print_json(network_shapes.to_json())
    elif format is TableFormat.toml:
        typer.echo(tomli_w.dumps(network_shapes.to_json()), nl=False)
    elif format is TableFormat.csv:
        import csv

        writer = csv.DictWriter(sys.stdout, shapes.CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(network_shapes.csv_rows())
    else:
        console.print_table(*network_shapes.stage_table())
        if network_shapes.additions:
            print()
            console.print_table(*network_shapes.addition_table())
            print(f"\n{network_shapes.explain_shortcuts()}")


COMMANDS = (
    Command(models, place=10, examples=("parity models --json | jq '.[].name'",)),
    Command(
        table,
        place=20,
        examples=(
            "parity table resnext50_32x4d --format csv > table.csv",
            "parity table resnet18@d2l --shapes",
            "parity table net.py:Residual,3,6 --shape x=4x3x6x6",
        ),
    ),
)
