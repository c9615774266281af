"""`parity.convert`: convert a checkpoint of one framework to another framework's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parity import files, temporary
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    parse_image_size,
)
from parity.comparison.checkpoints import CANONICAL, convert_checkpoint, detect_format
from parity.errors import WeightError
from parity.network import architectures, weights
from parity.processes.children import Children


@dataclass(frozen=True)
class Conversion:
    """A finished conversion; `sha256` is that of the canonical weights, equal in both files.

    `tensors` is the number of arrays, `parameters` the number of trained values; `notes` name
    tensors whose type was changed on reading, such as half precision.
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
    once, in the target framework's names and axis order. The file is read back and compared bit for
    bit before it replaces `target`.

    Parameters:
        model: The architecture; `parity models` lists them.
        source: The checkpoint to read: .safetensors, .pth, .pt, .weights.h5 or .keras.
        target: The checkpoint to write; its suffix is its format.
        classes, image_size, channels: Sizes that override the architecture's; `image_size` is in
            pixels: 224, "96x128" or (height, width).
        python: The interpreters of runtimes: {"keras": "envs/keras"}.
        progress: A function that is called with a runtime and what it is doing now.

    Raises `WeightError` for a weight that is missing, unused, of another shape or not finite,
    `SpecError` for an unknown model or impossible sizes, `UsageError` for an unknown suffix,
    `OutputError` for a target that cannot be written, `MissingRuntimeError` without the framework.
    No file is written then.

    Example:
        >>> import parity
        >>> conversion = parity.convert("resnet18", "resnet18.pth", "resnet18.weights.h5")
        >>> conversion.tensors, conversion.parameters
        (102, 11689512)
    """
    progress = progress or no_progress
    source, target = Path(source), Path(target)
    detect_format(source)
    target_format = detect_format(target)
    size = parse_image_size(image_size)
    spec = architectures.get(model, classes=classes, image_size=size, channels=channels)
    if not source.is_file():
        raise WeightError(f"{source}: no such file")
    with (
        files.atomic_write(target) as part,
        temporary.working_folder() as folder,
        Children(python=find_interpreters(python)) as children,
    ):
        canonical = folder / "canonical.safetensors"
        notes = convert_checkpoint(spec, source, canonical, children, progress)
        values = weights.load(canonical, spec.table())
        if target_format == CANONICAL:
            weights.save(part, values, metadata={"model": spec.name})
        else:
            progress(target_format, f"writing {target.name}")
            children[target_format].call(
                "write_checkpoint", spec=spec.to_json(), source=str(canonical), path=str(part)
            )
        verification = folder / "verification.safetensors"
        convert_checkpoint(spec, part, verification, children, progress, reader=target_format)
        digest = weights.digest(values)
        if weights.digest(weights.load(verification, spec.table())) != digest:
            raise WeightError(f"{target}: the weights read back differ from those of {source}")
    tensors = sum(1 for _ in spec.table().weights())
    return Conversion(spec.name, source, target, tensors, spec.parameters, digest, notes)
