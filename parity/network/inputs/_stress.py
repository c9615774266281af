"""Stress inputs: values that ordinary pictures do not have."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from parity.network.inputs._input import Array, Shape


def make_stress_inputs(shape: Shape) -> dict[str, Array]:
    """Return inputs that ordinary pictures do not resemble, (1, C, H, W) each, by name.

    Zeros leave only biases; an impulse shows each kernel's position, a checkerboard the highest
    frequency; large and negative values reach what saturates or clips.
    """
    channels, height, width = shape
    board = np.indices((height, width)).sum(axis=0) % 2
    ramp = np.linspace(-1.0, 1.0, height * width).reshape(height, width)
    impulse = np.zeros((height, width))
    impulse[height // 2, width // 2] = 1.0
    planes = {
        "zeros": np.zeros((height, width)),
        "ones": np.ones((height, width)),
        "large": 1e4 * ramp,
        "negative": -1.0 - np.abs(ramp),
        "impulse": impulse,
        "checkerboard": 2.0 * board - 1.0,
    }
    return {
        name: np.ascontiguousarray(np.broadcast_to(plane, (1, channels, height, width)), np.float32)
        for name, plane in planes.items()
    }


def make_stress_arrays(shape: tuple[int, ...]) -> dict[str, Array]:
    """Return the same patterns for an input of any rank, by name; `shape` has the batch axis.

    Every item of the batch has the same values.
    """
    item = shape[1:] or (1,)
    board = np.indices(item).sum(axis=0) % 2
    ramp = np.linspace(-1.0, 1.0, math.prod(item)).reshape(item)
    impulse = np.zeros(item)
    impulse[tuple(length // 2 for length in item)] = 1.0
    patterns = {
        "zeros": np.zeros(item),
        "ones": np.ones(item),
        "large": 1e4 * ramp,
        "negative": -1.0 - np.abs(ramp),
        "impulse": impulse,
        "checkerboard": 2.0 * board - 1.0,
    }
    return {
        name: np.ascontiguousarray(
            np.broadcast_to(pattern, (*shape[:1], *item)), np.float32
        ).reshape(shape)
        for name, pattern in patterns.items()
    }


def make_stress_ids(shape: tuple[int, ...], count: int) -> dict[str, NDArray[np.int64]]:
    """Return ids below `count` that random ones seldom are, by name: the first, the last, all."""
    size = math.prod(shape)
    return {
        "first id": np.zeros(shape, np.int64),
        "last id": np.full(shape, count - 1, np.int64),
        "ascending ids": (np.arange(size) % count).reshape(shape),
    }
