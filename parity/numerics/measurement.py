"""The distances of captures, row by row, measured by this process and by helper processes."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, Self

from parity.numerics.capture import CaptureReader
from parity.numerics.distance import ErrorMetrics, PairwiseErrors, build_mismatch

HELPER_THRESHOLD = 2**28
"""Bytes of captures from which helpers pay: starting one takes as long as measuring these."""

MAX_HELPERS = 7
"""Each takes some 40 MB; beyond a few the memory's speed is the limit."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """Two subjects at one row: ``max|xa - xb|`` and ``||xa - xb|| / ||x64||``."""

    max_abs: float
    rel_l2: float


@dataclass(frozen=True, slots=True)
class RowErrors:
    """One row: each subject's error against the reference, and each pair's, by ``a|b``."""

    errors: Mapping[str, ErrorMetrics]
    pairs: Mapping[str, PairResult]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "errors": {name: error.to_json() for name, error in self.errors.items()},
            "pairs": {name: asdict(pair) for name, pair in self.pairs.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what ``to_json`` gave."""
        return cls(
            {name: ErrorMetrics.from_json(error) for name, error in data["errors"].items()},
            {name: PairResult(**pair) for name, pair in data["pairs"].items()},
        )


def measure_row(
    row: str, reference: CaptureReader, subjects: Mapping[str, CaptureReader]
) -> RowErrors:
    """Read one row of every capture in step, once, and measure subjects and pairs."""
    shape = reference.shape(row)
    present = {name: reader for name, reader in subjects.items() if row in reader}
    streamed = {name: reader for name, reader in present.items() if reader.shape(row) == shape}
    readers = [reference, *streamed.values()]
    # The floor has the row's scale already.
    distances = PairwiseErrors([reader.dtype(row) for reader in readers], scaled=False)
    for pieces in zip(*(reader.chunks(row) for reader in readers), strict=True):
        distances.add(pieces)
    errors = {name: distances.error(0, k, shape) for k, name in enumerate(streamed, 1)}
    for name in present.keys() - streamed.keys():
        errors[name] = build_mismatch(actual=present[name].shape(row), expected=shape)
    pairs = {}
    for (i, left), (j, right) in itertools.combinations(enumerate(streamed, 1), 2):
        error = distances.error(i, j, shape)
        pairs[f"{left}|{right}"] = PairResult(error.max_abs, error.rel_l2)
    return RowErrors(errors, pairs)


class Helper(Protocol):
    """A process that measures rows; `parity.runtimes.numpy` serves its two operations."""

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Do "open" (captures by path) or "measure" (one row)."""
        ...


StartHelpers = Callable[[int], AbstractContextManager[Sequence[Helper]]]
"""Starts so many helpers, which end with the context."""


def measure_rows(
    rows: Sequence[str],
    reference: CaptureReader,
    subjects: Mapping[str, CaptureReader],
    *,
    start_helpers: StartHelpers | None = None,
) -> dict[str, RowErrors]:
    """Measure rows that the reference has; large captures with the help of other processes.

    The pieces are small, so that they stay in a core's cache, and a thread would hand the
    interpreter's lock over for each of them: two threads were slower than one, two processes take
    half the time.
    """
    readers = (reference, *subjects.values())
    size = sum(reader.nbytes(row) for row in rows for reader in readers if row in reader)
    count = min(MAX_HELPERS, _count_cores() - 1) if size >= HELPER_THRESHOLD else 0
    if count <= 0 or start_helpers is None:
        return {row: measure_row(row, reference, subjects) for row in rows}
    paths = {name: str(reader.path.resolve()) for name, reader in subjects.items()}
    opened = {"reference": str(reference.path.resolve()), "subjects": paths}
    # The largest first, so that all end at about the same time.
    waiting: SimpleQueue[str] = SimpleQueue()
    for row in sorted(rows, key=reference.nbytes, reverse=True):
        waiting.put(row)
    found: dict[str, RowErrors] = {}

    def measure_by(helper: Helper) -> None:
        helper.call("open", **opened)
        for row in _drain(waiting):
            found[row] = RowErrors.from_json(helper.call("measure", row=row))

    def measure_here() -> None:
        for row in _drain(waiting):
            found[row] = measure_row(row, reference, subjects)

    with start_helpers(count) as helpers, ThreadPoolExecutor(count + 1) as pool:
        work = [pool.submit(measure_here), *(pool.submit(measure_by, one) for one in helpers)]
        try:
            for done in wait(work, return_when=FIRST_EXCEPTION).done:
                done.result()
        except BaseException:
            # The others stop after the row that they are at.
            for _ in _drain(waiting):
                pass
            raise
    return {row: found[row] for row in rows}


def _drain(waiting: SimpleQueue[str]) -> Iterator[str]:
    with contextlib.suppress(Empty):
        while True:
            yield waiting.get_nowait()


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
