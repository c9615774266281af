"""Logs for TensorBoard: scalars and weight histograms, written without any framework."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.training.callbacks import EpochMetrics

Array = NDArray[Any]

BINS = 30


def is_installed() -> bool:
    """Return whether the package that encodes the log is there."""
    return importlib.util.find_spec("tensorboard") is not None


def append_epoch(
    path: Path, length: int, metrics: EpochMetrics, weights: Mapping[str, Array]
) -> int:
    """Append an epoch's scalars and weight histograms to a log; return its new length in bytes.

    What the file has after `length` is cut off first: a killed run may have left it there.
    """
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    path.touch()
    with path.open("r+b") as file:
        file.truncate(length)
        file.seek(length)
        writer = RecordWriter(file)
        if not length:
            event = event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
            writer.write(event.SerializeToString())
        event = event_pb2.Event(wall_time=time.time(), step=metrics.epoch)
        for name, value in metrics.to_json().items():
            if name != "epoch":
                event.summary.value.add(tag=name, simple_value=value)
        for name, array in weights.items():
            _fill_histogram(event.summary.value.add(tag=f"weights/{name}").histo, array)
        writer.write(event.SerializeToString())
        file.flush()
        return file.tell()


def _fill_histogram(histogram: Any, array: Array) -> None:
    values = array.reshape(-1).astype(np.float64)
    counts, edges = np.histogram(values, BINS)
    histogram.min, histogram.max = float(values.min()), float(values.max())
    histogram.num, histogram.sum = float(values.size), float(values.sum())
    histogram.sum_squares = float(values @ values)
    # Each limit is the upper end of a bin; an empty first bin states where they begin.
    histogram.bucket_limit.extend(edges.tolist())
    histogram.bucket.extend([0.0, *counts.tolist()])
