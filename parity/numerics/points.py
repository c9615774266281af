"""Comparison points: the tensors at which all subjects are compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ComparisonPoint:
    """The output of one row of a layer table.

    `name` is that of the stage, the block or the layer that the row ends, by the depth compared.
    `shape` is the tensor's without its batch axis, channels first.
    """

    name: str
    stage: str
    row: str
    shape: tuple[int, ...]
