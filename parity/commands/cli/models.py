"""The commands that need no framework: the models there are, their tables and their shapes."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import csv
import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from parity.commands.cli import arguments as given
from parity.commands.cli import console
from parity.commands.cli.command import Command
from parity.commands.cli.console import guarded

if TYPE_CHECKING:
    from parity.network.spec import ModelSpec


class TableFormat(StrEnum):
    """How `parity table` prints."""

    text = "text"
    json = "json"
    csv = "csv"
    toml = "toml"


def models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for a program.")] = False,
) -> None:
    """List the architectures and how many parameters each has.

    Parameters are what is trained. "With statistics" adds
    batch-norm's running mean and variance, as Keras counts. A variant, MODEL@VARIANT, has the
    numbers of the model that was published.
    """
    with guarded():
        from parity.network import architectures

        found = [
            architectures.get(name) for name in (*architectures.names(), *architectures.variants())
        ]
        rows = [
            {
                "name": model.name,
                "family": model.family,
                "parameters": model.size.parameters,
                "with_statistics": model.size.total,
                "input_shape": list(model.input_shape),
                "classes": model.classes,
            }
            for model in found
        ]
        if as_json:
            typer.echo(json.dumps(rows, indent=2))
            return
        console.columns(
            ["model", "parameters", "with statistics", "input", "classes"],
            [
                [
                    str(row["name"]),
                    f"{row['parameters']:,}",
                    f"{row['with_statistics']:,}",
                    "×".join(map(str, model.input_shape)),
                    str(row["classes"]),
                ]
                for model, row in zip(found, rows, strict=True)
            ],
            right=("parameters", "with statistics", "classes"),
        )


def table(
    model: given.Model,
    format: Annotated[TableFormat, typer.Option(help="How to print.")] = TableFormat.text,
    shapes: Annotated[
        bool,
        typer.Option("--shapes", help="The shape after each stage, and both sides of each sum."),
    ] = False,
    classes: given.Classes = None,
    image_size: given.Size = None,
    channels: given.Channels = None,
) -> None:
    """Print the layer table: each layer in both models.

    A row has a layer's kind, its name in both models, its weights' shapes in both layouts, its
    output's shape and its stage. With --shapes, follow the shapes through the network instead: what
    each stage gives, and which two tensors every addition takes.
    """
    with guarded():
        from parity.commands.values import parse_image_size
        from parity.network import architectures

        size = parse_image_size(image_size)
        found = architectures.get(model, classes=classes, image_size=size, channels=channels)
        if shapes:
            _print_shapes(found, format)
            return
        layers = found.table()
        if format is TableFormat.json:
            typer.echo(json.dumps(layers.to_json(), indent=2))
        elif format is TableFormat.csv:
            typer.echo(layers.to_csv(), nl=False)
        elif format is TableFormat.toml:
            typer.echo(layers.to_toml(), nl=False)
        else:
            rows = layers.text_rows()
            console.columns(list(rows[0]), [list(row.values()) for row in rows])


def _print_shapes(found: "ModelSpec", format: TableFormat) -> None:
    import tomli_w

    from parity.network import shapes

    made = shapes.summarise(found)
    if format is TableFormat.json:
        typer.echo(json.dumps(made.to_json(), indent=2))
    elif format is TableFormat.toml:
        typer.echo(tomli_w.dumps(made.to_json()), nl=False)
    elif format is TableFormat.csv:
        writer = csv.DictWriter(sys.stdout, shapes.CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(made.csv_rows())
    else:
        console.columns(*made.stage_table())
        if made.additions:
            print()
            console.columns(*made.addition_table())
            print(f"\n{made.explain_shortcuts()}")


COMMANDS = (
    Command(models, place=10, examples=("parity models --json | jq '.[].name'",)),
    Command(
        table,
        place=20,
        examples=(
            "parity table resnext50_32x4d --format csv > table.csv",
            "parity table resnet18@d2l --shapes",
        ),
    ),
)
