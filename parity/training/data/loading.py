"""Loading of batches ahead, in worker processes, into files that every framework's child reads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity.errors import ChildError
from parity.training.data.batches import BatchReader

AHEAD = 4
"""The number of batches that are loaded before they are needed."""


@dataclass(frozen=True, slots=True)
class BatchFiles:
    """One batch as two `.npy` files; `count` is its number of images."""

    images: Path
    labels: Path
    count: int
    sha256: str

    def delete(self) -> None:
        self.images.unlink(missing_ok=True)
        self.labels.unlink(missing_ok=True)


@contextmanager
def open_loader(folder: Path, *, workers: int) -> Iterator[BatchLoader]:
    """Yield a loader that writes batches into `folder`.

    With `workers` 0 a thread of this process loads; else so many processes do.
    """
    executor: Executor
    if workers:
        # Forked processes would inherit the locks of threads that they do not have.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    else:
        executor = ThreadPoolExecutor(1)
    try:
        yield BatchLoader(folder, executor)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class BatchLoader:
    """Loads batches ahead; the files of a batch are deleted when the next one is taken."""

    def __init__(self, folder: Path, executor: Executor) -> None:
        self._folder = folder
        self._executor = executor
        self._streams = 0

    def submit(
        self, reader: BatchReader, epoch: int, step: int, *, name: str
    ) -> Future[BatchFiles]:
        """Start to load one batch into files called `name`-…; the caller deletes them."""
        return self._executor.submit(_write, reader, epoch, step, str(self._folder / name))

    def iterate(self, reader: BatchReader, epoch: int, *, start: int = 0) -> Iterator[BatchFiles]:
        """Yield the batches of an epoch in order, from step `start` on.

        Raises `InputError` for an image that cannot be read, and `ChildError` where a worker died.
        """
        self._streams += 1
        stream = self._streams
        steps = iter(range(start, reader.plan.steps))
        pending: deque[Future[BatchFiles]] = deque()

        def submit_next() -> None:
            step = next(steps, None)
            if step is not None:
                name = f"batch-{stream}-{step}"
                pending.append(self.submit(reader, epoch, step, name=name))

        try:
            for _ in range(AHEAD):
                submit_next()
            while pending:
                batch = pending.popleft().result()
                submit_next()
                try:
                    yield batch
                finally:
                    batch.delete()
        except BrokenProcessPool as error:
            raise ChildError("a process that loads images died, possibly out of memory") from error
        finally:
            for future in pending:
                if not future.cancel() and future.exception() is None:
                    future.result().delete()


def _end_with_parent() -> None:
    """End this worker when its parent is gone, even by kill -9; leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _write(reader: BatchReader, epoch: int, step: int, path: str) -> BatchFiles:
    """Read one batch and write its arrays; runs in a worker."""
    batch = reader.read(epoch, step)
    images, labels = Path(f"{path}-images.npy"), Path(f"{path}-labels.npy")
    np.save(images, batch.images)
    np.save(labels, batch.labels)
    return BatchFiles(images, labels, len(batch.labels), batch.sha256)


def default_workers(*, from_files: bool) -> int:
    """Return how many processes load: none for images in memory, else one or two."""
    return min(2, max(1, (os.cpu_count() or 1) // 2)) if from_files else 0
