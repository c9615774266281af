"""`parity convert` and `parity export`: a checkpoint or a model in another format, as commands."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
from pathlib import Path
from typing import Annotated

import typer

from parity.commands.cli import arguments as given
from parity.commands.cli import console
from parity.commands.cli.command import Command
from parity.commands.cli.console import guarded, output, progress
from parity.processes import registry


def convert(
    model: given.Model,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The checkpoint to write.")],
    weights: Annotated[
        Path,
        typer.Option(
            help=f"The checkpoint to read: .safetensors {' '.join(registry.checkpoint_suffixes())}"
        ),
    ],
    classes: given.Classes = None,
    image_size: given.Size = None,
    channels: given.Channels = None,
    python: given.Interpreters = None,
) -> None:
    """Turn a checkpoint into another format, bit for bit.

    Complete in both directions: a weight missing, left over or of another shape is an error.
    """
    with guarded():
        from parity.commands import convert as conversion
        from parity.processes.interpreters import interpreters

        with progress() as tell:
            done = conversion.convert(
                model,
                weights,
                target,
                classes=classes,
                image_size=image_size,
                channels=channels,
                python=interpreters(python or []),
                progress=tell,
            )
        for note in done.notes:
            console.note(note)
        output().print(
            f"{done.target}: {done.tensors} tensors, {done.parameters:,} parameters, "
            f"sha256 {done.sha256[:12]}; read back, bit for bit the same"
        )


def export(
    model: given.Model,
    onnx: Annotated[Path, typer.Option(metavar="OUT", help="The ONNX file to write.")],
    side: Annotated[given.Framework, typer.Option("--from", help="Whose twin to export.")],
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint; without it, seeded random weights.")
    ] = None,
    opset: given.Opset = None,
    stage_outputs: Annotated[
        bool,
        typer.Option(
            "--stage-outputs", help="Give every stage's tensor too, in its framework's shape."
        ),
    ] = False,
    seed: given.Seed = 0,
    classes: given.Classes = None,
    image_size: given.Size = None,
    channels: given.Channels = None,
    cache: given.Cached = True,
    python: given.Interpreters = None,
) -> None:
    """Export a model to ONNX, and prove the file.

    It passes the ONNX checker and shape inference, loads in ONNX Runtime, and gives the
    framework's outputs at N = 1, 2 and 3, or no file is left behind.
    """
    with guarded():
        from parity.commands import export as exporting
        from parity.processes.interpreters import interpreters

        with progress() as tell:
            done = exporting.export(
                model,
                onnx,
                side=str(side),
                weights=weights,
                opset=opset,
                stage_outputs=stage_outputs,
                seed=seed,
                classes=classes,
                image_size=image_size,
                channels=channels,
                cache=cache,
                python=interpreters(python or []),
                progress=tell,
            )
        for note in done.notes:
            console.note(note)
        worst = max(check["max_abs"] for check in done.checks)
        batches = ", ".join(str(n) for n in sorted({check["batch"] for check in done.checks}))
        output().print(
            f"{done.path}: {done.bytes / 1e6:.1f} MB, opset {done.opset}, outputs "
            f"{', '.join(done.outputs)}\nchecked: loads in ONNX Runtime; at N = {batches} the "
            f"largest difference from {done.side} is {worst:.2e}, which is rounding"
        )


COMMANDS = (
    Command(
        convert,
        place=40,
        examples=(
            "parity convert resnext50_32x4d --weights r.pth r.weights.h5",
            "parity convert resnet18 --weights r.keras r.safetensors --classes 10",
        ),
    ),
    Command(
        export,
        place=50,
        examples=(
            "parity export --onnx r.onnx resnext50_32x4d --from keras",
            "parity export --onnx r.onnx resnet18 --from torch --weights r.pth --stage-outputs",
        ),
    ),
)
