"""Comparison points: the tensors at which all subjects are compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ComparisonPoint:
    """The output of one row of a layer table.

    `name` is the name of the stage, block or layer that ends at the row, by the depth compared.
    `shape` is the tensor's shape without the batch axis, channels first.
    """

    name: str
    stage: str
    row: str
    shape: tuple[int, ...]
