"""The shapes of a network as its layer table has them: after each stage, and at every addition."""

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
class Tensor:
    """A tensor's name, which is a row's, a stage's or `input`, and its shape."""

    name: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {format_shape(self.shape, by='×')}"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape)}


@dataclass(frozen=True)
class Addition:
    """A sum, the two tensors that it takes, and `fork`, the last one that both are made of."""

    sum: Tensor
    first: Tensor
    second: Tensor
    fork: Tensor

    @property
    def is_identity(self) -> bool:
        """Whether one side is the fork itself: a shortcut without any layer."""
        return self.fork in (self.first, self.second)


@dataclass(frozen=True)
class Shapes:
    """All shapes of one network that somebody who follows it by hand would write down."""

    model: str
    input: Tensor
    stages: tuple[Tensor, ...]
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

    def records(self) -> Iterator[dict[str, str]]:
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

    def stage_lines(self) -> tuple[list[str], list[list[str]]]:
        """The heading and the lines of a terminal's table of stages."""
        return ["stage", "shape"], [
            [stage.name, format_shape(stage.shape, by="×")] for stage in (self.input, *self.stages)
        ]

    def addition_lines(self) -> tuple[list[str], list[list[str]]]:
        """The heading and the lines of a terminal's table of additions."""
        return ["addition", "adds", "and", "the first is"], [
            [
                item.sum.name,
                str(item.first),
                str(item.second),
                "what the block is given" if item.is_identity else f"made of {item.fork}",
            ]
            for item in self.additions
        ]

    def answer(self) -> str:
        """Say why the sums without a layer on their shortcut do not fail."""
        plain = sum(item.is_identity for item in self.additions)
        if not plain:
            return f"All {len(self.additions)} shortcuts have layers: none is added as it is."
        return (
            f"{plain} of {len(self.additions)} shortcuts have no layer: such a block ends in the "
            "shape that it is given, so that both sides of its sum have one shape. A block whose "
            "two sides differ is refused when it is built, never broadcast."
        )


def of(spec: ModelSpec) -> Shapes:
    """The shapes of `spec`'s layer table at its input size."""
    table = spec.table()
    given = Tensor(INPUT, spec.input_shape)
    tensors = {row.name: Tensor(row.name, row.shape) for row in table.rows}
    sources = _sources(table)
    additions = tuple(
        _addition(row, {INPUT: given, **tensors}, sources)
        for row in table.rows
        if row.kind == "add" and len(row.inputs) == 2
    )
    return Shapes(spec.name, given, tuple(_stages(table)), additions)


def _stages(table: LayerTable) -> Iterator[Tensor]:
    """Each stage's output; a global pool's before and after its two axes of size 1 are dropped.

    Keras's layer drops them itself, PyTorch's leaves that to a flatten.
    """
    for stage, row in table.ends("stage").items():
        if kinds.get(row.kind).pools_image and len(row.shape) == 1:
            yield Tensor(stage, (*row.shape, 1, 1))
            yield Tensor("flatten", row.shape)
        else:
            yield Tensor(stage, row.shape)


def _sources(table: LayerTable) -> Mapping[str, tuple[str, ...]]:
    """What each row reads, by name."""
    before, sources = INPUT, {}
    for row in table.rows:
        sources[row.name] = row.inputs or (before,)
        before = row.name
    return sources


def _addition(
    row: Row, tensors: Mapping[str, Tensor], sources: Mapping[str, tuple[str, ...]]
) -> Addition:
    first, second = row.inputs
    seen = set(_ancestors(first, sources))
    fork = next(name for name in _ancestors(second, sources) if name in seen)
    return Addition(tensors[row.name], tensors[first], tensors[second], tensors[fork])


def _ancestors(name: str, sources: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield the row and all that it is made of, the latest first: no row reads a later one."""
    place = {INPUT: -1, **{row: index for index, row in enumerate(sources)}}
    waiting = {name}
    while waiting:
        latest = max(waiting, key=place.__getitem__)
        waiting.remove(latest)
        waiting.update(sources.get(latest, ()))
        yield latest
