"""Conversion of checkpoints of any format to canonical form, by the child of their framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.network import weights
from parity.network.spec import ModelSpec
from parity.network.table import LayerTable
from parity.processes import registry
from parity.processes.child import refuse_crashing_file
from parity.processes.children import Children

CANONICAL = "safetensors"
"""The format that needs no framework."""


def detect_format(path: str | Path) -> str:
    """Return the format of a checkpoint by its suffix; raises `UsageError` for an unknown one."""
    name = Path(path).name
    formats = {f".{CANONICAL}": CANONICAL, **registry.checkpoint_suffixes()}
    for suffix, format_name in formats.items():
        if name.endswith(suffix):
            return format_name
    known = ", ".join(formats)
    raise UsageError(
        f"{path}: unknown checkpoint format; expected a name that ends in one of {known}"
    )


def convert_checkpoint(
    spec: ModelSpec,
    source: Path,
    target: Path,
    children: Children,
    progress: Callable[[str, str], None],
    *,
    reader: str | None = None,
    table: LayerTable | None = None,
) -> tuple[str, ...]:
    """Write a checkpoint of any format as the canonical file `target`.

    `reader` is its format, by default that of the suffix. `table` replaces the architecture's, for
    a variant that has other weights in one framework. Returns notes on the nesting that was
    removed. Raises `WeightError` unless it has exactly the weights of `spec`, and `UsageError` for
    an unknown suffix.
    """
    reader = reader or detect_format(source)
    if reader == CANONICAL:
        weights.save(target, weights.load(source, spec.table() if table is None else table))
        return ()
    progress(reader, f"reading {source.name}")
    options = {} if table is None else {"table": table.to_json()}
    with refuse_crashing_file(source):
        answer: dict[str, Any] = children[reader].call(
            "read_checkpoint", spec=spec.to_json(), path=str(source), out=str(target), **options
        )
    return tuple(answer["notes"])
