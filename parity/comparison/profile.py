"""The error profile of a tensor: the largest error at each position and in each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.results import ErrorMap
from parity.numerics.capture import CaptureReader
from parity.numerics.floor import Floor
from parity.numerics.verdict import PointResult, Status

Array = NDArray[Any]

MAX_POSITIONS, MAX_CHANNELS = 64, 4096


def profile_worst_error(
    stages: Sequence[PointResult],
    reference: Path,
    captures: Mapping[str, Path],
    precisions: Mapping[str, str],
) -> ErrorMap | None:
    """Profile the worst error of all stages and subjects; None if nothing was compared.

    If isolated errors were measured, the worst of them is profiled, and `captures` are the isolated
    captures.
    """
    isolated = bool(stages) and bool(stages[0].isolated)
    candidates = [
        (result.x_floor_max, index, name)
        for index, stage in enumerate(stages)
        for name, result in (stage.isolated if isolated else stage.subjects).items()
        if result.status is not Status.MISSING and result.message is None
    ]
    if not candidates:
        return None
    # Of equal errors the first: the later ones may be inherited.
    _, index, name = max(candidates, key=lambda candidate: (candidate[0], -candidate[1]))
    stage = stages[index]
    floor: Floor | None = stage.isolated_floor if isolated else stage.floor
    with CaptureReader(reference) as expected, CaptureReader(captures[name]) as actual:
        if actual.shape(stage.row) != expected.shape(stage.row):
            return None
        return measure_profile(
            actual=actual.read(stage.row),
            expected=expected.read(stage.row),
            stage=stage.name,
            row=stage.row,
            subject=name,
            floor_max=0.0 if floor is None else floor.for_precision(precisions[name]).max_abs,
        )


def measure_profile(
    *, actual: Array, expected: Array, stage: str, row: str, subject: str, floor_max: float
) -> ErrorMap:
    """Profile the difference of two tensors of one shape, in float64: NCHW, NC, NTC or N.

    The channels are the second axis, or the last axis of a sequence. A NaN or Inf that the other
    tensor does not share is an infinite error. The batch is processed item by item.
    """
    if actual.shape != expected.shape:
        raise ValueError(f"{row}: expected {expected.shape}, found {actual.shape}")
    shape = expected.shape
    height, width = shape[2:] if expected.ndim == 4 else (0, 0)
    spatial = np.zeros((height, width))
    channels = np.zeros(1 if expected.ndim == 1 else shape[1 if expected.ndim in (2, 4) else -1])
    for item, expected_item in zip(actual, expected, strict=True):
        error = _absolute_error(
            np.atleast_1d(item).astype(np.float64), np.atleast_1d(expected_item).astype(float)
        )
        if error.ndim == 3:
            np.maximum(spatial, error.max(axis=0), out=spatial)
            error = error.max(axis=(1, 2))
        elif error.ndim == 2:
            error = error.max(axis=0)
        np.maximum(channels, error, out=channels)
    positions = _max_pool(_max_pool(spatial, MAX_POSITIONS).T, MAX_POSITIONS).T
    return ErrorMap(
        stage=stage,
        row=row,
        subject=subject,
        shape=expected.shape,
        spatial=tuple(tuple(line) for line in positions.tolist()) if spatial.size else (),
        floor_max=floor_max,
        channels=tuple(_max_pool(channels, MAX_CHANNELS).tolist()),
    )


def _absolute_error(actual: Array, expected: Array) -> Array:
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected)
    error[~np.isfinite(error)] = np.inf
    error[same] = 0.0
    return np.asarray(error)


def _max_pool(array: Array, limit: int) -> Array:
    """Pool the first axis to at most ``limit`` elements, by the maximum over neighbours."""
    count = len(array)
    if count <= limit:
        return array
    starts = np.arange(limit) * count // limit
    return np.asarray(np.maximum.reduceat(array, starts, axis=0))
