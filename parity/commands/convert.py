"""`parity convert`: a checkpoint of one framework into another framework's file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parity import files
from parity.comparison.checkpoints import CANONICAL, convert_checkpoint, detect_format
from parity.errors import WeightError
from parity.network import architectures, weights
from parity.processes.children import Children


@dataclass(frozen=True)
class Converted:
    """What was converted; `sha256` is that of the canonical weights, equal on both sides."""

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
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    python: dict[str, str] | None = None,
    progress: Callable[[str, str], None] = lambda runtime, text: None,
) -> Converted:
    """Convert the checkpoint `source` of `model` into `target`, by their suffixes.

    Complete in both directions: a weight that is missing, left over or of another shape raises
    `WeightError`, and nothing is written. What was written is read back and compared bit for bit.
    """
    source, target = Path(source), Path(target)
    detect_format(source)
    writer = detect_format(target)
    found = architectures.get(model, classes=classes, image_size=image_size, channels=channels)
    if not source.is_file():
        raise WeightError(f"{source}: no such file")
    with (
        files.replacing(target) as part,
        tempfile.TemporaryDirectory(prefix="parity-") as folder,
        Children(python=python) as made,
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
    return Converted(found.name, source, target, tensors, found.parameters, digest, notes)
