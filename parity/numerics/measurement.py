"""The errors of captures by row, measured by this process and by helper processes."""

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

from parity.defaults import find_thread_limit
from parity.numerics.capture import CaptureReader
from parity.numerics.distance import ErrorMetrics, PairwiseErrors, build_mismatch

HELPER_THRESHOLD = 2**28
"""Bytes of captures above which helpers save time: measuring them takes as long as a start."""

MAX_HELPERS = 7
"""Each takes about 40 MB; with more helpers, memory bandwidth is the limit."""


@dataclass(frozen=True, slots=True)
class PairResult:
    """Two subjects at one row: ``max|xa - xb|`` and ``||xa - xb|| / ||x64||``."""

    max_abs: float
    rel_l2: float


@dataclass(frozen=True, slots=True)
class RowErrors:
    """The errors at one row: each subject's against the reference, and each pair's, by ``a|b``."""

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
        """Return the errors that ``to_json`` serialised."""
        return cls(
            {name: ErrorMetrics.from_json(error) for name, error in data["errors"].items()},
            {name: PairResult(**pair) for name, pair in data["pairs"].items()},
        )


def measure_row(
    row: str, reference: CaptureReader, subjects: Mapping[str, CaptureReader]
) -> RowErrors:
    """Measure subjects and pairs at one row; each capture is read once, chunk by chunk."""
    shape = reference.shape(row)
    present = {name: reader for name, reader in subjects.items() if row in reader}
    comparable = {name: reader for name, reader in present.items() if reader.shape(row) == shape}
    readers = [reference, *comparable.values()]
    # The floor holds the scale of the row.
    pairwise = PairwiseErrors([reader.dtype(row) for reader in readers], with_scale=False)
    for chunks in zip(*(reader.chunks(row) for reader in readers), strict=True):
        pairwise.add(chunks)
    errors = {name: pairwise.metrics(0, k, shape) for k, name in enumerate(comparable, 1)}
    for name in present.keys() - comparable.keys():
        errors[name] = build_mismatch(actual=present[name].shape(row), expected=shape)
    pairs = {}
    for (i, left), (j, right) in itertools.combinations(enumerate(comparable, 1), 2):
        error = pairwise.metrics(i, j, shape)
        pairs[f"{left}|{right}"] = PairResult(error.max_abs, error.rel_l2)
    return RowErrors(errors, pairs)


class Helper(Protocol):
    """A process that measures rows; `parity.runtimes.numpy` serves its two operations."""

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Run "open" (captures by path) or "measure" (one row)."""
        ...


StartHelpers = Callable[[int], AbstractContextManager[Sequence[Helper]]]
"""Starts a number of helpers, which end with the context."""


def measure_rows(
    rows: Sequence[str],
    reference: CaptureReader,
    subjects: Mapping[str, CaptureReader],
    *,
    start_helpers: StartHelpers | None = None,
) -> dict[str, RowErrors]:
    """Measure rows of the reference; helper processes share the work on large captures.

    Chunks are small so that they stay in a core's cache, and a thread would hand over the
    interpreter's lock for each chunk: two threads were slower than one, two processes take half
    the time.
    """
    readers = (reference, *subjects.values())
    size = sum(reader.nbytes(row) for row in rows for reader in readers if row in reader)
    count = min(MAX_HELPERS, _count_cores() - 1) if size >= HELPER_THRESHOLD else 0
    if count <= 0 or start_helpers is None:
        return {row: measure_row(row, reference, subjects) for row in rows}
    paths = {name: str(reader.path.resolve()) for name, reader in subjects.items()}
    arguments = {"reference": str(reference.path.resolve()), "subjects": paths}
    # The largest first, so that all end at about the same time.
    queue: SimpleQueue[str] = SimpleQueue()
    for row in sorted(rows, key=reference.nbytes, reverse=True):
        queue.put(row)
    errors: dict[str, RowErrors] = {}

    def measure_by(helper: Helper) -> None:
        helper.call("open", **arguments)
        for row in _drain(queue):
            errors[row] = RowErrors.from_json(helper.call("measure", row=row))

    def measure_here() -> None:
        for row in _drain(queue):
            errors[row] = measure_row(row, reference, subjects)

    with start_helpers(count) as helpers, ThreadPoolExecutor(count + 1) as pool:
        work = [pool.submit(measure_here), *(pool.submit(measure_by, one) for one in helpers)]
        try:
            for future in wait(work, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            # The other workers stop after their current row.
            for _ in _drain(queue):
                pass
            raise
    return {row: errors[row] for row in rows}


def _drain(queue: SimpleQueue[str]) -> Iterator[str]:
    with contextlib.suppress(Empty):
        while True:
            yield queue.get_nowait()


def _count_cores() -> int:
    if limit := find_thread_limit():
        return limit
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
