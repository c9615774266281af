"""`parity convert`: a checkpoint of one framework into another framework's file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import files
from parity.errors import UsageError, WeightError
from parity.network import spec, weights
from parity.network.spec import ModelSpec
from parity.processes import registry
from parity.processes.children import Children

CANONICAL = "safetensors"
"""The format of weights that no framework need read."""


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


def format_of(path: str | Path) -> str:
    """The framework of a checkpoint's suffix; raises `UsageError` for an unknown one."""
    name = Path(path).name
    formats = {f".{CANONICAL}": CANONICAL, **registry.checkpoint_suffixes()}
    for suffix, found in formats.items():
        if name.endswith(suffix):
            return found
    known = ", ".join(formats)
    raise UsageError(f"{path}: unknown kind of checkpoint; its name must end in {known}")


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
    reader, writer = format_of(source), format_of(target)
    found = spec.get(model, classes=classes, image_size=image_size, channels=channels)
    if not source.is_file():
        raise WeightError(f"{source}: no such file")
    files.require_writable(target)
    with tempfile.TemporaryDirectory(prefix="parity-") as folder, Children(python=python) as made:
        canonical = Path(folder) / "canonical.safetensors"
        notes = read(found, source, canonical, reader, made, progress)
        values = weights.load(canonical, found.table())
        if writer == CANONICAL:
            weights.save(target, values, metadata={"model": found.name})
        else:
            progress(writer, f"writing {target.name}")
            made[writer].call(
                "write_checkpoint", spec=found.to_json(), source=str(canonical), path=str(target)
            )
        again = Path(folder) / "again.safetensors"
        read(found, target, again, writer, made, progress)
        digest = weights.digest(values)
        if weights.digest(weights.load(again, found.table())) != digest:
            target.unlink(missing_ok=True)
            raise WeightError(f"{target}: read back it has other bits than {source}")
    tensors = sum(1 for _ in found.table().weights())
    return Converted(found.name, source, target, tensors, found.parameters, digest, notes)


def read(
    found: ModelSpec,
    source: Path,
    target: Path,
    reader: str,
    children: Children,
    progress: Callable[[str, str], None],
) -> tuple[str, ...]:
    """Read a checkpoint of any format into a canonical file; notes on what was unwrapped."""
    if reader == CANONICAL:
        weights.save(target, weights.load(source, found.table()))
        return ()
    progress(reader, f"reading {source.name}")
    answer: dict[str, Any] = children[reader].call(
        "read_checkpoint", spec=found.to_json(), path=str(source), out=str(target)
    )
    return tuple(answer["notes"])
