"""The float32 floor of a model, measured in the child that holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from parity.network.table import LayerTable, Row
from parity.numerics import capture, floor

Array = NDArray[Any]

Sink = Callable[[Row, Array], Array | None]
"""Takes each row's tensor as it is made. An array that it gives back, of the same shape, is what
the layers behind are fed instead."""


class Runs(Protocol):
    """A runtime that can run replicas of its model."""

    def replica(self, dtype: str) -> tuple[Any, Callable[[Mapping[str, Array]], None]]: ...

    def forward(self, x: Array, rows: Sequence[Row], sink: Sink, *, model: Any) -> float: ...


class FloorStudy:
    """The float32 replicates of one model on one input, measured row by row as they run."""

    def __init__(
        self,
        runtime: Runs,
        data: Array,
        rows: Sequence[Row],
        values: Mapping[str, Array],
        reference: Path,
        table: LayerTable,
    ) -> None:
        self.runtime = runtime
        self.data = data
        self.rows = rows
        self.values = values
        self.reference = reference
        self.table = table
        self.model, self.set_weights = runtime.replica("float32")

    def measure(
        self,
        replicates: int,
        seed: int,
        *,
        isolate: bool,
        plain: Path | None,
        accumulate: bool = True,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The floors of the rows, accumulated (unless told not to) and, with `isolate`, isolated.

        Both are JSON. `plain` is a capture of the first replicate, which is then not run again.
        """
        accumulated, isolated = floor.FloorMeter(), floor.FloorMeter()
        with capture.CaptureReader(self.reference) as expected:
            for replicate in range(replicates):
                if replicate == 0 and plain is not None and not isolate:
                    self._read(plain, expected, accumulated)
                    continue
                rng = np.random.Generator(np.random.SFC64([seed, replicate]))
                moved = (lambda array, rng=rng: floor.perturb(array, rng)) if replicate else _same
                self.set_weights({name: moved(value) for name, value in self.values.items()})
                x = moved(self.data)
                if accumulate:
                    self._run(x, expected, accumulated, None)
                if isolate:
                    self._run(x, expected, isolated, moved)
        ends = {row.name for row in self.rows}
        found = accumulated.result(self.table.equivalent_sum_terms())
        alone = isolated.result(self.table.longest_sum_terms(ends))
        return floor.to_json(found), floor.to_json(alone)

    def _read(self, plain: Path, expected: capture.CaptureReader, meter: floor.FloorMeter) -> None:
        with capture.CaptureReader(plain) as reader:
            for row in self.rows:
                actual = reader.read(row.name)
                meter.add(row.name, actual=actual, expected=expected.read(row.name))

    def _run(
        self,
        x: Array,
        expected: capture.CaptureReader,
        meter: floor.FloorMeter,
        moved: Callable[[Array], Array] | None,
    ) -> None:
        def sink(row: Row, array: Array) -> Array | None:
            right = expected.read(row.name)
            meter.add(row.name, actual=array, expected=right)
            return None if moved is None else moved(right.astype(np.float32))

        self.runtime.forward(x, self.rows, sink, model=self.model)


def _same(array: Array) -> Array:
    return array


@contextmanager
def fed(path: str | None) -> Iterator[Callable[[Row, Array], Array | None]]:
    """What takes the place of a row's tensor: the reference's, in the tensor's own dtype."""
    if path is None:
        yield lambda row, array: None
        return
    with capture.CaptureReader(Path(path)) as reader:
        yield lambda row, array: reader.read(row.name).astype(array.dtype)
