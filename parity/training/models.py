"""The model of a training run: a registered architecture, or the models that references name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from parity.network import kinds, weights
from parity.network.table import LayerTable, Row
from parity.network.trained_layout import WEIGHT_PAIRS, TrainedLayout, pairs_to_json

if TYPE_CHECKING:
    from parity.network.spec import ModelSpec

Array = NDArray[Any]

HOOKED_KINDS = ("relu", "max_pool")
"""The kinds whose choices, on which side of a kink a unit is, are seen and proved."""


@dataclass(frozen=True)
class TrainedModel:
    """What is trained, in one framework or two.

    `table` lists the layers and the canonical weights of the frameworks that are trained.
    `identity` is what a resumed run must have again, as plain data. `layouts` and `children` are by
    framework, for models that references name; a registered architecture, `spec`, has neither.
    `hidden_kinks` are layers whose derivative jumps and whose choices cannot be seen.
    """

    name: str
    table: LayerTable
    identity: Mapping[str, Any]
    image_size: tuple[int, int]
    channels: int
    frameworks: tuple[str, ...]
    hidden_kinks: tuple[str, ...] = ()
    spec: ModelSpec | None = None
    layouts: Mapping[str, TrainedLayout] = field(default_factory=dict)
    children: Mapping[str, str] = field(default_factory=dict)
    """The names of the children that hold the models."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of_spec(cls, spec: ModelSpec, frameworks: Sequence[str]) -> TrainedModel:
        """Return a registered architecture as it is trained in these frameworks."""
        table = spec.table_for(frameworks)
        return cls(
            spec.name,
            table,
            spec.to_json(),
            spec.image_size,
            spec.channels,
            tuple(frameworks),
            find_hidden_kinks(table.rows, hooked=[r.name for r in table.rows if _is_hooked(r)]),
            spec,
        )

    def load_weights(self, path: Path) -> dict[str, Array]:
        """Return the canonical weights of a checkpoint of this run, by name."""
        if self.spec is not None:
            return weights.load(path, self.table)
        values = safetensors.numpy.load_file(path)
        return {name: values[name] for name in self.weight_shapes if name in values}

    def to_metadata(self) -> dict[str, str]:
        """Return what a checkpoint must say, so that the other framework's model can load it."""
        pairs = [pair for layout in self.layouts.values() for pair in layout.pairs]
        return {WEIGHT_PAIRS: json.dumps(pairs_to_json(pairs))} if pairs else {}

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the canonical weights, by name."""
        return {weight.name: weight.shape for _, weight in self.table.weights()}


def find_hidden_kinks(rows: Sequence[Row], *, hooked: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the rows whose derivative jumps and whose choices are not hooked."""
    return tuple(
        row.name for row in rows if kinds.properties(row.kind).has_kink and row.name not in hooked
    )


def _is_hooked(row: Row) -> bool:
    return row.kind in HOOKED_KINDS and row.in_both_models and "#" not in row.keras


def replace_kernels(values: Mapping[str, Array], drawn: Mapping[str, Array]) -> dict[str, Array]:
    """Return initial weights with those that a scheme draws, in the dtype of the others."""
    return {
        name: np.asarray(drawn[name], value.dtype) if name in drawn else value
        for name, value in values.items()
    }
