"""Checkpoints of any format, brought into canonical form by the child of their framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.network import weights
from parity.network.spec import ModelSpec
from parity.processes import registry
from parity.processes.children import Children

CANONICAL = "safetensors"
"""The format that no framework is needed for."""


def detect_format(path: str | Path) -> str:
    """The framework of a checkpoint's suffix; raises `UsageError` for an unknown one."""
    name = Path(path).name
    formats = {f".{CANONICAL}": CANONICAL, **registry.checkpoint_suffixes()}
    for suffix, found in formats.items():
        if name.endswith(suffix):
            return found
    known = ", ".join(formats)
    raise UsageError(f"{path}: unknown kind of checkpoint; its name must end in {known}")


def convert_checkpoint(
    spec: ModelSpec,
    source: Path,
    target: Path,
    children: Children,
    progress: Callable[[str, str], None],
    *,
    reader: str | None = None,
) -> tuple[str, ...]:
    """Write a checkpoint of any format as the canonical file `target`.

    `reader` is its format, by the suffix if it is not given. Returns notes on what it was unwrapped
    from. Raises `WeightError` unless it has exactly the weights of `spec`, and `UsageError` for an
    unknown suffix.
    """
    reader = reader or detect_format(source)
    if reader == CANONICAL:
        weights.save(target, weights.load(source, spec.table()))
        return ()
    progress(reader, f"reading {source.name}")
    answer: dict[str, Any] = children[reader].call(
        "read_checkpoint", spec=spec.to_json(), path=str(source), out=str(target)
    )
    return tuple(answer["notes"])
