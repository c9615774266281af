"""`parity convert`: a checkpoint of one framework into another framework's file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parity import files
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    parse_image_size,
    silent,
)
from parity.comparison.checkpoints import CANONICAL, convert_checkpoint, detect_format
from parity.errors import WeightError
from parity.network import architectures, weights
from parity.processes.children import Children


@dataclass(frozen=True)
class Conversion:
    """What was converted; `sha256` is that of the canonical weights, equal on both sides.

    `tensors` and `parameters` count arrays and trained numbers; `notes` say what was read otherwise
    than it was written, such as half precision.
    """

    model: str
    source: Path
    target: Path
    tensors: int
    parameters: int
    sha256: str
    notes: tuple[str, ...]


def convert(
    model: str,
    source: str | Path,
    target: str | Path,
    *,
    classes: int | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    python: Mapping[str, str | Path] | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a checkpoint of a registered model into another format, bit for bit.

    It is complete in both directions: every weight of the layer table is read once and written
    once, in the target framework's names and axis order. What was written is read back and compared
    bit for bit before it takes its name.

    Parameters:
        model: The architecture; `parity models` lists them.
        source: The checkpoint to read: .safetensors, .pth, .pt, .weights.h5 or .keras.
        target: The checkpoint to write, its format that of its suffix.
        classes, image_size, channels: Other sizes than the architecture's own; the image's in
            pixels: 224, "96x128" or (height, width).
        python: The interpreter of a runtime: {"keras": "envs/keras"}.
        progress: Is called with a runtime and what it is doing now.

    Raises `WeightError` for a weight that is missing, left over, of another shape or not finite,
    `SpecError` for an unknown model or impossible sizes, `UsageError` for an unknown suffix,
    `OutputError` for a target that cannot be written, `RuntimeMissing` without the framework.
    No file is written then.

    Example:
        >>> import parity
        >>> conversion = parity.convert("resnet18", "resnet18.pth", "resnet18.weights.h5")
        >>> conversion.tensors, conversion.parameters
        (102, 11689512)
    """
    progress = progress or silent
    source, target = Path(source), Path(target)
    detect_format(source)
    writer = detect_format(target)
    size = parse_image_size(image_size)
    found = architectures.get(model, classes=classes, image_size=size, channels=channels)
    if not source.is_file():
        raise WeightError(f"{source}: no such file")
    with (
        files.replacing(target) as part,
        tempfile.TemporaryDirectory(prefix="parity-") as folder,
        Children(python=find_interpreters(python)) as made,
    ):
        canonical = Path(folder) / "canonical.safetensors"
        notes = convert_checkpoint(found, source, canonical, made, progress)
        values = weights.load(canonical, found.table())
        if writer == CANONICAL:
            weights.save(part, values, metadata={"model": found.name})
        else:
            progress(writer, f"writing {target.name}")
            made[writer].call(
                "write_checkpoint", spec=found.to_json(), source=str(canonical), path=str(part)
            )
        again = Path(folder) / "again.safetensors"
        convert_checkpoint(found, part, again, made, progress, reader=writer)
        digest = weights.digest(values)
        if weights.digest(weights.load(again, found.table())) != digest:
            raise WeightError(f"{target}: read back it has other bits than {source}")
    tensors = sum(1 for _ in found.table().weights())
    return Conversion(found.name, source, target, tensors, found.parameters, digest, notes)
