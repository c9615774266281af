"""Seeded random weights: drawn in this process, their batch-norm statistics computed by a child."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parity.network import inputs, weights
from parity.network.spec import ModelSpec
from parity.processes.child import Child

_BATCH = "calibration.npy"
"""The calibration batch, (N, C, H, W) float32, beside the weights that were drawn."""


def draw(spec: ModelSpec, seed: int, folder: Path) -> Path:
    """Draw a model's weights and a calibration batch from a seed; return the weights' file.

    Their batch-norm statistics are means of 0 and variances of 1.
    """
    path = folder / "raw.safetensors"
    weights.save(path, weights.init(spec, seed=seed))
    np.save(folder / _BATCH, inputs.make_calibration_batch(spec.input_shape, seed=seed))
    return path


def calibrate(raw: Path, child: Child, target: Path) -> Path:
    """Replace the batch-norm statistics of what `draw` wrote; return `target`.

    The child has loaded the model, and computes them on the calibration batch.
    """
    batch = raw.with_name(_BATCH)
    child.call("calibrate", source=str(raw), target=str(target), data=str(batch))
    return target


def draw_and_calibrate(spec: ModelSpec, seed: int, child: Child, target: Path) -> Path:
    """Draw weights and calibrate them in a child that has loaded the model; return `target`."""
    return calibrate(draw(spec, seed, target.parent), child, target)
