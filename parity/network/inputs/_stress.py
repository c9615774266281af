"""Stress inputs: values that ordinary pictures do not have."""

from __future__ import annotations

import numpy as np

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
