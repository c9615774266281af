"""The captures of isolated layers: the reference's and the subjects' outputs, read by row.

Tensors are (N, C, H, W), (N, T, C) or (N, C).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from parity.explain.findings import equal_within_rounding
from parity.explain.proof.layer import Array, Layer
from parity.network import kinds
from parity.network.table import INPUT, LayerTable, Row
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.verdict import PointResult

NEARBY = 4
"""The number of rows before and after a layer whose tensors it may have confused."""


class ReferenceTensors:
    """The network's input and the reference's outputs, in float64, in the order of the table."""

    def __init__(self, table: LayerTable, reader: CaptureReader, image: Array) -> None:
        self.table = table
        self.reader = reader
        self.image = image
        self._cache: dict[str, Array] = {INPUT: image}

    def __contains__(self, name: str) -> bool:
        return name == INPUT or name in self.reader

    def read(self, name: str) -> Array:
        """Return the output of a row, or the network's input for the name `input`."""
        if name not in self._cache:
            self._cache[name] = self.reader.read(name).astype(np.float64)
        return self._cache[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, with its batch axis, without reading it."""
        return self.image.shape if name == INPUT else self.reader.shape(name)

    def names_before(self, row: Row) -> list[str]:
        """Return the names of the tensors before a row, in execution order."""
        order = [INPUT, *(other.name for other in self.table.rows)]
        return [name for name in order[: order.index(row.name)] if name in self]

    def nearby_outputs(
        self, row: Row, shape: tuple[int, ...], also: Sequence[str]
    ) -> dict[str, Array]:
        """Return the outputs of this shape of the rows around `row`, and of the rows `also`."""
        order = [other.name for other in self.table.rows if other.name in self]
        here = order.index(row.name)
        names = order[max(here - NEARBY, 0) : here] + order[here + 1 : here + 1 + NEARBY]
        names += [name for name in also if name in order and name not in names]
        return {name: self.read(name) for name in names if self.shape(name) == shape}

    def possible_inputs(self, row: Row, layer: Layer, *, float64: bool) -> dict[str, Array]:
        """Return the tensors around `row` that have the shape of one of the layer's inputs.

        They are rounded to float32, as the subject was given them, unless it ran in `float64`.
        """
        order = [INPUT, *(other.name for other in self.table.rows if other.name in self)]
        here = order.index(row.name)
        # A sum may read from before its whole block, and takes no time to evaluate.
        back = 3 * NEARBY if kinds.joins_branches(row.kind) else NEARBY
        names = order[max(here - back, 0) : here] + order[here + 1 : here + 1 + NEARBY]
        shapes = {tensor.shape for tensor in layer.inputs}
        return {
            name: self.read(name) if float64 else round_to_float32(self.read(name))
            for name in names
            if self.shape(name) in shapes
        }

    def image_shape(self, row: Row, layer: Layer) -> tuple[int, ...] | None:
        """Return the shape (C, H, W) of the nearby image that a dense layer's input flattens."""
        if row.kind != "dense" or layer.inputs[0].ndim != 2:
            return None
        order = [INPUT, *(other.name for other in self.table.rows)]
        flat_input = layer.inputs[0].astype(np.float32)
        for name in reversed(order[: order.index(row.name)][-NEARBY:]):
            if name not in self:
                continue
            image = self.read(name)
            flat = image.reshape(len(image), -1)
            if image.ndim == 4 and np.array_equal(flat.astype(np.float32), flat_input):
                return image.shape[1:]
        return None


def round_to_float32(tensor: Array) -> Array:
    """Return a float64 tensor rounded to float32, as float64."""
    return tensor.astype(np.float32).astype(np.float64)


@contextlib.contextmanager
def open_captures(paths: Mapping[str, Path]) -> Iterator[dict[str, CaptureReader]]:
    """Open the captures of several subjects for reading, by subject."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(CaptureReader(path)) for name, path in paths.items()}


def outputs_agree(
    one: CaptureReader | None, other: CaptureReader | None, row: str, floor: Floor, limit: float
) -> bool:
    """Return whether two captures have equal outputs of a row, but for rounding.

    False where a capture or the row is missing.
    """
    if one is None or other is None or row not in one or row not in other:
        return False
    first, second = (np.asarray(reader.read(row)) for reader in (one, other))
    return equal_within_rounding(first, second, floor, limit)


def recovers_downstream(
    subject: str, row: Row, *, order: Sequence[str], stages: Collection[PointResult], limit: float
) -> bool:
    """Return whether all later points of the run without isolation are within the limit.

    `order` has the names of all rows. Only the L2 error counts: a single value of a long sum may
    differ by its own rounding. False where no later point was compared.
    """
    position = {name: index for index, name in enumerate(order)}
    later = [
        stage.subjects[subject]
        for stage in stages
        if position[stage.row] > position[row.name] and subject in stage.subjects
    ]
    return bool(later) and all(result.x_floor <= limit for result in later)
