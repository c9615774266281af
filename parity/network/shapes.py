"""The shapes of a network by its layer table: after each stage, and at every addition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parity.network import kinds
from parity.network.rows import INPUT, Row, format_shape
from parity.network.spec import ModelSpec
from parity.network.table import LayerTable

Shape = tuple[int, ...]
"""Without the batch axis, channels first: (C, H, W) or (C,)."""

CSV_COLUMNS = (
    "what", "name", "shape", "first", "first_shape", "second", "second_shape", "fork", "fork_shape",
)  # fmt: skip


@dataclass(frozen=True)
class NamedShape:
    """A tensor's name, which is a row's, a stage's or `input`, and its shape."""

    name: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {format_shape(self.shape, by='×')}"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape)}


@dataclass(frozen=True)
class Addition:
    """A sum, its two inputs, and `fork`, the last tensor that both are computed from."""

    sum: NamedShape
    first: NamedShape
    second: NamedShape
    fork: NamedShape

    @property
    def is_identity(self) -> bool:
        """Whether one input is the fork itself: a shortcut without layers."""
        return self.fork in (self.first, self.second)


@dataclass(frozen=True)
class ShapeSummary:
    """The shapes of one network: input, stages, additions."""

    model: str
    input: NamedShape
    stages: tuple[NamedShape, ...]
    additions: tuple[Addition, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "input": list(self.input.shape),
            "stages": [stage.to_json() for stage in self.stages],
            "additions": [
                {
                    **item.sum.to_json(),
                    "inputs": [item.first.to_json(), item.second.to_json()],
                    "fork": item.fork.to_json(),
                }
                for item in self.additions
            ],
        }

    def csv_rows(self) -> Iterator[dict[str, str]]:
        """Yield the cells of CSV, under `CSV_COLUMNS`."""
        for stage in (self.input, *self.stages):
            yield {"what": "stage", "name": stage.name, "shape": format_shape(stage.shape)}
        for item in self.additions:
            yield {
                "what": "addition", "name": item.sum.name, "shape": format_shape(item.sum.shape),
                "first": item.first.name, "first_shape": format_shape(item.first.shape),
                "second": item.second.name, "second_shape": format_shape(item.second.shape),
                "fork": item.fork.name, "fork_shape": format_shape(item.fork.shape),
            }  # fmt: skip

    def stage_table(self) -> tuple[list[str], list[list[str]]]:
        """Return the heading and the lines of the table of stages for the terminal."""
        return ["stage", "shape"], [
            [stage.name, format_shape(stage.shape, by="×")] for stage in (self.input, *self.stages)
        ]

    def addition_table(self) -> tuple[list[str], list[list[str]]]:
        """Return the heading and the lines of the table of additions for the terminal."""
        return ["addition", "adds", "and", "the first is"], [
            [
                item.sum.name,
                str(item.first),
                str(item.second),
                "the block's input" if item.is_identity else f"computed from {item.fork}",
            ]
            for item in self.additions
        ]

    def explain_shortcuts(self) -> str:
        """Return a sentence on why sums without a layer on their shortcut are valid."""
        plain = sum(item.is_identity for item in self.additions)
        if not plain:
            return (
                f"All {len(self.additions)} shortcuts have layers; there is no identity shortcut."
            )
        return (
            f"{plain} of {len(self.additions)} shortcuts have no layer: the output of such a "
            "block has the shape of its input, so both inputs of the sum have one shape. A block "
            "whose two shapes differ is an error when it is built; nothing is broadcast."
        )


def summarise(spec: ModelSpec) -> ShapeSummary:
    """Return the shapes of `spec`'s layer table at its input size."""
    table = spec.table()
    image = NamedShape(INPUT, spec.input_shape)
    tensors = {row.name: NamedShape(row.name, row.shape) for row in table.rows}
    sources = _sources(table)
    additions = tuple(
        _addition(row, {INPUT: image, **tensors}, sources)
        for row in table.rows
        if row.kind == "add" and len(row.inputs) == 2
    )
    return ShapeSummary(spec.name, image, tuple(_stages(table)), additions)


def _stages(table: LayerTable) -> Iterator[NamedShape]:
    """Yield each stage's output; a global pool's before and after its two axes of size 1 are
    dropped.

    Keras's layer drops them itself, PyTorch needs a flatten.
    """
    for stage, row in table.last_rows("stage").items():
        if kinds.get(row.kind).pools_image and len(row.shape) == 1:
            yield NamedShape(stage, (*row.shape, 1, 1))
            yield NamedShape("flatten", row.shape)
        else:
            yield NamedShape(stage, row.shape)


def _sources(table: LayerTable) -> Mapping[str, tuple[str, ...]]:
    """Return the inputs of each row, by name."""
    before, sources = INPUT, {}
    for row in table.rows:
        sources[row.name] = row.inputs or (before,)
        before = row.name
    return sources


def _addition(
    row: Row, tensors: Mapping[str, NamedShape], sources: Mapping[str, tuple[str, ...]]
) -> Addition:
    first, second = row.inputs
    seen = set(_ancestors(first, sources))
    fork = next(name for name in _ancestors(second, sources) if name in seen)
    return Addition(tensors[row.name], tensors[first], tensors[second], tensors[fork])


def _ancestors(name: str, sources: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield the row and all rows that it is computed from, the latest first."""
    place = {INPUT: -1, **{row: index for index, row in enumerate(sources)}}
    waiting = {name}
    while waiting:
        latest = max(waiting, key=place.__getitem__)
        waiting.remove(latest)
        waiting.update(sources.get(latest, ()))
        yield latest
