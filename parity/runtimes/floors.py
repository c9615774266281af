"""The float32 rounding floor of a model, measured in the process that runs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from parity.defaults import find_thread_limit
from parity.network.table import LayerTable, Row
from parity.numerics import capture, floor

Array = NDArray[Any]

TensorHook = Callable[[Row, Array], Array | None]
"""Called with each row and its tensor when it is computed. If it returns an array, of the same
shape, the layers that follow read that one in place of the tensor."""


class ReplicaRunner(Protocol):
    """A runtime that can build and run replicas of its model."""

    def build_replica(self, dtype: str) -> tuple[Any, Callable[[Mapping[str, Array]], None]]: ...

    def forward(self, x: Array, rows: Sequence[Row], hook: TensorHook, *, model: Any) -> object: ...


@dataclass(frozen=True)
class Perturbation:
    """What one float32 replicate does to every floating array, weights and input alike.

    Replicate 0 leaves them unchanged; the others move each value by up to one ulp (docs/design.md,
    "The verdict"). The arrays must be perturbed in one fixed order: they share a random generator.
    """

    rng: np.random.Generator | None
    precision: str = "float32"
    """Of a lower one, what has several axes, which mixed precision rounds, is moved by its ulps."""

    @classmethod
    def of_replicate(cls, replicate: int, *, seed: int, precision: str = "float32") -> Perturbation:
        """Return the perturbation of a replicate, counted from 0."""
        rng = np.random.Generator(np.random.SFC64([seed, replicate])) if replicate else None
        return cls(rng, precision)

    def __call__(self, array: Array) -> Array:
        """Return the array as this replicate has it."""
        if self.rng is None:
            return array
        factor = floor.PRECISION_FACTORS[self.precision] if array.ndim > 1 else 1.0
        return floor.perturb(array, self.rng, factor=factor)


def iterate_replicates(
    values: Mapping[str, Array],
    x: Array,
    set_weights: Callable[[Mapping[str, Array]], None],
    *,
    replicates: Sequence[int],
    seed: int,
) -> Iterator[tuple[Array, Perturbation]]:
    """Set the weights of each replicate in turn; yield its input and its perturbation."""
    for replicate in replicates:
        perturbation = Perturbation.of_replicate(replicate, seed=seed)
        # The model may keep the arrays: those of replicate 0 are the values themselves.
        own = perturbation if replicate else np.copy
        set_weights({name: own(value) for name, value in values.items()})
        yield perturbation(x), perturbation


Prepared = TypeVar("Prepared")
"""What a function prepares for one replicate."""


class FloorHelper:
    """One thread beside the model's own: it prepares what the next replicate needs, and measures
    the errors of the last tensors.

    The results are those of one thread, bit for bit: the helper does one thing after another, in
    the order in which it was asked. A process that is limited to one thread has no helper.
    """

    MAX_PENDING = 2**26
    """Bytes of tensors that wait for the helper; with more the model waits."""

    def __init__(self, pool: Executor | None) -> None:
        self._pool = pool
        self._pending: deque[tuple[int, Future[Any]]] = deque()
        self._size = 0

    def prepare(
        self, function: Callable[[int], Prepared], replicates: Iterable[int], *, size: int
    ) -> Iterator[Prepared]:
        """Yield the result for each replicate; the next is computed while the caller has one.

        `size` is that of one result, in bytes: of large ones no second is made early.
        """
        if self._pool is None or size > MAX_PREPARED:
            yield from map(function, replicates)
            return
        upcoming: deque[Future[Prepared]] = deque()
        for replicate in replicates:
            upcoming.append(self._pool.submit(function, replicate))
            if len(upcoming) > 1:
                yield upcoming.popleft().result()
        for last in upcoming:
            yield last.result()

    def measure(
        self, meter: floor.FloorAccumulator, row: str, *, actual: Array, expected: Array
    ) -> None:
        """Add an error to a meter; what fails is raised by a later call, or by `finish`."""
        if self._pool is None:
            meter.add(row, actual=actual, expected=expected)
            return
        # The framework may compute in this memory again. A sum depends on the order of the axes.
        own = np.array(actual, order="K")
        future = self._pool.submit(meter.add, row, actual=own, expected=expected)
        self._pending.append((own.nbytes, future))
        self._size += own.nbytes
        while self._size > self.MAX_PENDING or (self._pending and self._pending[0][1].done()):
            self._wait_for_first()

    def finish(self) -> None:
        """Wait until all errors are measured."""
        while self._pending:
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        size, future = self._pending.popleft()
        self._size -= size
        future.result()


MAX_PREPARED = 2**29
"""Bytes of weights up to which those of two replicates are in memory at once."""


@contextmanager
def open_floor_helper() -> Iterator[FloorHelper]:
    """Start the helper of one measurement of floors; its thread ends with the context."""
    if find_thread_limit() == 1:
        yield FloorHelper(None)
        return
    with ThreadPoolExecutor(1) as pool:
        try:
            yield FloorHelper(pool)
        finally:
            pool.shutdown(cancel_futures=True)


class FloorStudy:
    """The float32 replicates of one model on one input, measured row by row as they run."""

    def __init__(
        self,
        runtime: ReplicaRunner,
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
        self.model, self.set_weights = runtime.build_replica("float32")

    def measure(
        self,
        replicates: int,
        seed: int,
        *,
        isolate: bool,
        plain_capture: Path | None,
        accumulate: bool = True,
    ) -> tuple[dict[str, floor.Floor], dict[str, floor.Floor]]:
        """Return the floors of the rows: of whole runs, and of isolated parts.

        Without `accumulate` the first are left out, without `isolate` the second. `plain_capture`
        is a capture of the first replicate, which is then not run again.
        """
        accumulated, isolated = floor.FloorAccumulator(), floor.FloorAccumulator()
        with capture.CaptureReader(self.reference) as expected:
            skip_first = plain_capture is not None and not isolate and replicates > 0
            if plain_capture is not None and skip_first:
                self._read(plain_capture, expected, accumulated)
            for x, perturbation in iterate_replicates(
                self.values,
                self.data,
                self.set_weights,
                replicates=range(int(skip_first), replicates),
                seed=seed,
            ):
                if accumulate:
                    self._run(x, expected, accumulated, None)
                if isolate:
                    self._run(x, expected, isolated, perturbation)
        ends = {row.name for row in self.rows}
        return (
            accumulated.floors(self.table.equivalent_sum_terms()),
            isolated.floors(self.table.longest_sum_terms(ends)),
        )

    def _read(
        self, plain: Path, expected: capture.CaptureReader, meter: floor.FloorAccumulator
    ) -> None:
        with capture.CaptureReader(plain) as reader:
            for row in self.rows:
                actual = reader.read(row.name)
                meter.add(row.name, actual=actual, expected=expected.read(row.name))

    def _run(
        self,
        x: Array,
        expected: capture.CaptureReader,
        meter: floor.FloorAccumulator,
        perturbation: Perturbation | None,
    ) -> None:
        """Run one replicate; with a perturbation each part reads the reference's input, moved."""

        def hook(row: Row, array: Array) -> Array | None:
            reference = expected.read(row.name)
            meter.add(row.name, actual=array, expected=reference)
            if perturbation is None:
                return None
            return perturbation(reference.astype(np.float32))

        self.runtime.forward(x, self.rows, hook, model=self.model)


@contextmanager
def open_feed(path: str | None) -> Iterator[Callable[[Row, Array], Array | None]]:
    """Yield a function of a row and its tensor that returns the reference's, in the same dtype.

    `path` is the capture of the reference; without one the function returns None.
    """
    if path is None:
        yield lambda row, array: None
        return
    with capture.CaptureReader(Path(path)) as reader:
        yield lambda row, array: reader.read(row.name).astype(array.dtype)
